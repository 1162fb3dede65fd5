"""The tables and figures of the paper beside this project's, and where its published scores come from."""
