"""What a study knows: rows of results.csv, their scores, their protocol, who writes them."""
