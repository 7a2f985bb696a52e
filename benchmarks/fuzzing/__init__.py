"""Grammars that draw files which are legal, or nearly so, and what a right reader makes of each.

One module a format; `case` says what they share, `runner` draws the files of one format and judges what is read.
"""
