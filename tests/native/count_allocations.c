// Preloaded before the C library: counts what is asked of it, between start_counting and stop_counting, in all threads.
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);

static atomic_int counting;
static atomic_ullong blocks, bytes;

void start_counting(void) {
  blocks = 0;
  bytes = 0;
  counting = 1;
}
void stop_counting(void) { counting = 0; }
unsigned long long counted_blocks(void) { return blocks; }
unsigned long long counted_bytes(void) { return bytes; }

static void count(size_t size) {
  if (!counting) return;
  blocks++;
  bytes += size;
}

void *malloc(size_t size) { return count(size), __libc_malloc(size); }
void *calloc(size_t number, size_t size) { return count(number * size), __libc_calloc(number, size); }
void *realloc(void *block, size_t size) { return count(size), __libc_realloc(block, size); }
void *aligned_alloc(size_t alignment, size_t size) { return count(size), __libc_memalign(alignment, size); }
void *memalign(size_t alignment, size_t size) { return count(size), __libc_memalign(alignment, size); }
int posix_memalign(void **block, size_t alignment, size_t size) {
  count(size);
  *block = __libc_memalign(alignment, size);
  return *block == NULL ? ENOMEM : 0;
}
