/* libcublasLt.so.12: TurboMind links it and calls nothing. */
int nothing;
