"""Read and write stores for the recipes: buckets, HTTP servers, folders."""
