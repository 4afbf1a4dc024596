"""What an evaluation leaves: kept results, tables and figures."""
