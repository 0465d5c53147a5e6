#!/bin/sh
# A file of SQL as one C string literal with a comma behind it, on standard output.
sed -e 's/\\/\\\\/g; s/"/\\"/g; s/^/"/; s/$/\\n"/' "$1"
echo ,
