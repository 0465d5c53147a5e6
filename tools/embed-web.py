#!/usr/bin/env python3
"""Writes files as C: web_files.h for the server. embed-web.py OUT FILE..."""
import gzip
import os
import sys

out, files = sys.argv[1], [f for f in sys.argv[2:] if os.path.exists(f)]
text = ["/* Made by tools/embed-web.py. */", "#pragma once", "#include <stddef.h>", "struct web_file {",
        "\tconst char *name;", "\tconst void *plain;", "\tsize_t plain_len;", "\tconst void *gz;", "\tsize_t gz_len;", "};"]


def array(name, data):
    text.append("static const unsigned char %s[] = {%s};" % (name, ",".join(map(str, data or b"\0"))))


for i, f in enumerate(files):
    data = open(f, "rb").read()
    array("web_plain_%d" % i, data)
    array("web_gz_%d" % i, gzip.compress(data, 9, mtime=0))
rows = ['{"%s", web_plain_%d, sizeof web_plain_%d, web_gz_%d, sizeof web_gz_%d}' % (os.path.basename(f), i, i, i, i)
        for i, f in enumerate(files)]
text.append("static const struct web_file web_files[] = {%s};" % ", ".join(rows or ["{0}"]))
text.append("static const size_t web_files_n = %d;" % len(files))
open(out, "w").write("\n".join(text) + "\n")
