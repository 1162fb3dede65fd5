"""Scripts that make the data of the package and its documentation."""
