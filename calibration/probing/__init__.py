"""The probe's part in a worker: it reads memory and multiplies matrices with torch or numpy; no engine runs."""
