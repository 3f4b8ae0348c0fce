"""How recipes read and write stores: buckets, HTTP servers, folders."""
