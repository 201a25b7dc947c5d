// Package house holds the rules of this project that a compiler cannot: the
// floors on which packages stand, who may import what, and what the house style
// can state so plainly that a program can check it. It has no code of its own,
// only tests, which read the source files themselves and shell out for nothing
// but the list of modules that are built in.
package house
