"""What a trained representation has to beat: the untrained network, MFCCs, and other people's models."""
