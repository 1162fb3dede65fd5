"""Studies: what papers report and what this project measures; one folder for each page of docs/results."""
