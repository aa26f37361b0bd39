"""The bindings of ``bench.thrift``, made by ``thrift --gen py``; nothing here is written by hand."""
