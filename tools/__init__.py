"""What the lint step uses, and users never see."""
