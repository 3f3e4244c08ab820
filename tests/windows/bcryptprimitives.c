/* Stands in for a library of Windows that Wine 8 lacks, and from which Rust's standard library takes its random
   numbers. For tests alone: it lies beside the program as bcryptprimitives.dll. */
#include <windows.h>

/* RtlGenRandom, by the name under which advapi32 has it. */
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T count) {
  return SystemFunction036(bytes, (ULONG)count);
}
