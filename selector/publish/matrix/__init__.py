"""Models x candidates, host by host: what each square holds, how it is measured again, and what was not launched."""
