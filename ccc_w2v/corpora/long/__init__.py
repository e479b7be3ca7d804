"""Hours-long recordings as they are: segments of them, found at their pauses and listed as offsets."""
