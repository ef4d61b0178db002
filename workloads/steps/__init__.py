"""The steps that recipes share."""
