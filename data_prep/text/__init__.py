"""Text classification data: GLUE and six sentence sets, overlap between them, vocabularies, tokens, word vectors."""
