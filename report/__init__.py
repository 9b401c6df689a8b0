"""The report of a batch as a page or as Markdown. Nothing here asks a database: it is given an `Account`."""
