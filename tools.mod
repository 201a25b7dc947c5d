module github.com/roamsign/roamsign/tools

go 1.26.0
