/* Tells one process what a console tells its programs: console_event PID INT|TERM|HUP|LOGOFF. For tests alone.

   INT is Ctrl-C, TERM is Ctrl-Break, HUP is a console that is closed, LOGOFF is the end of a user's session. Windows
   does it the same way: it starts a thread in the process, at CtrlRoutine, which calls the handlers. After a close it
   ends the process as soon as that thread has ended, and after five seconds in any case ("HandlerRoutine callback
   function", Remarks). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

#define CLOSE_TIMEOUT_MILLISECONDS 5000
#define CONTROL_C_EXIT_CODE 0xC000013A

static int fail(const char *what) {
  fprintf(stderr, "%s failed with error %lu\n", what, GetLastError());
  return 1;
}

int main(int count, char **arguments) {
  static const char *const names[] = {"INT", "TERM", "HUP", "LOGOFF"};
  static const DWORD events[] = {CTRL_C_EVENT, CTRL_BREAK_EVENT, CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT};
  int chosen = 0;
  while (count == 3 && chosen < 4 && strcmp(arguments[2], names[chosen]) != 0) ++chosen;
  if (count != 3 || chosen == 4) {
    fprintf(stderr, "usage: console_event PID INT|TERM|HUP|LOGOFF\n");
    return 2;
  }
  HANDLE process = OpenProcess(PROCESS_ALL_ACCESS, FALSE, strtoul(arguments[1], NULL, 10));
  if (!process) return fail("OpenProcess");
  FARPROC routine = GetProcAddress(GetModuleHandleA("kernel32.dll"), "CtrlRoutine");
  if (!routine) routine = GetProcAddress(GetModuleHandleA("kernelbase.dll"), "CtrlRoutine");
  if (!routine) return fail("GetProcAddress");
  void *event = (void *)(UINT_PTR)events[chosen];
  HANDLE thread = CreateRemoteThread(process, NULL, 0, (LPTHREAD_START_ROUTINE)(void *)routine, event, 0, NULL);
  if (!thread) return fail("CreateRemoteThread");
  if (events[chosen] == CTRL_CLOSE_EVENT) {
    WaitForSingleObject(thread, CLOSE_TIMEOUT_MILLISECONDS);
    TerminateProcess(process, CONTROL_C_EXIT_CODE);
  }
  return 0;
}
