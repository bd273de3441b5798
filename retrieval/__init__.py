"""Documents in, passages out: loading, sectioning, embedding, Milvus, search."""
