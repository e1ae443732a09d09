"""The probe of a machine: a worker reads memory and multiplies matrices with torch or numpy; no engine runs."""
