/* For ./build-static: what /etc/nsswitch.conf names beside files and DNS is a library made for the C library of the
   machine, and would end a static program that loaded it. So glibc is told that there is none. */
void *__wrap___libc_dlopen_mode(const char *name, int mode);

void *__wrap___libc_dlopen_mode(const char *name, int mode)
{
    (void) name;
    (void) mode;
    return 0;
}
