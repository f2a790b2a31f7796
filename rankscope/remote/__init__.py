"""Files behind URLs: what is there, and the bytes that are asked for.

`filesystem` finds the library that speaks a scheme, `looking` tells what is at a URL,
`remotefile` reads ranges of a file, `downloads` fetches a whole one. Everything here is asked
through `rankscope.presence`, `rankscope.files` and `rankscope.identities`.
"""
