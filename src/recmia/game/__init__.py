"""The membership game: who is a member, what is trained and served, what an attacker sees, and how it is run."""
