"""What evaluations share: whose images, which verdicts, what is kept, where it is logged."""
