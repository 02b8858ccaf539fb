"""What was read, judged: each check takes values and answers with findings. Pure."""
