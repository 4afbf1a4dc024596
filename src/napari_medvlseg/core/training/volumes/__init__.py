"""What trainings on labelled volumes share."""
