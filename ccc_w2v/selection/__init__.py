"""Which hours of a manifest to take: by sensitivity, spread over clusters, the longest, or at random."""
