"""Downloads: files over HTTP and from the Hugging Face Hub, text files and Parquet tables read within size limits."""
