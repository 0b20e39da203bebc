"""Tables, statistics and figures from run folders."""
