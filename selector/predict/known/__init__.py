"""What is known of times: launches of this host, imported ones and what ships, and the traits that times depend on."""
