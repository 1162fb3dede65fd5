"""The tables and figures of the paper compared with this project's, and how its published scores were made."""
