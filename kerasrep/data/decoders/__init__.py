"""What reads audio files beside libsndfile, and what containers hold, whatever their headers count."""
