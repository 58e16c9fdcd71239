"""The mesh room: what each machine has measured to each other, and who stands out."""
