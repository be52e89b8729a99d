package linker

// Direct is Update without a process, and without a fallback.
var Direct = direct
