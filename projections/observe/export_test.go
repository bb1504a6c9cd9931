package observe

// ModelsFile is for the test with the reader of such files, which imports this package.
var ModelsFile = modelsFile
