"""The candidates as servers under load: who is started next, who is out, and what each leaves behind."""
