"""Changes of single layers that suit a network to its images: proposed, ranked, written."""
