/* tests/core/test_file.c -- maps, atomic writes under every fault we can make, directories, free space, locks.
 *
 * fsync and rename are wrapped by the linker: the order of their calls is the contract, and a failing disk cannot be
 * had otherwise. */
#include "core/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/stop.h"

int __real_fsync(int fd);
int __real_rename(const char *from, const char *to);
int __wrap_fsync(int fd);
int __wrap_rename(const char *from, const char *to);

/* One letter a call: f a file synced, d a folder synced, r a rename. */
static char calls[256];
static int fsync_errno, rename_errno;

static void note_call(char c)
{
    const size_t n = strlen(calls);
    if (n + 1 < sizeof calls) calls[n] = c, calls[n + 1] = 0;
}

int __wrap_fsync(int fd)
{
    struct stat st;
    note_call(!fstat(fd, &st) && S_ISDIR(st.st_mode) ? 'd' : 'f');
    if (!fsync_errno) return __real_fsync(fd);
    errno = fsync_errno;
    return -1;
}

int __wrap_rename(const char *from, const char *to)
{
    note_call('r');
    if (!rename_errno) return __real_rename(from, to);
    errno = rename_errno;
    return -1;
}

static char root[] = "/tmp/decant_file_XXXXXX";

static int setup(void **unused)
{
    (void)unused;
    return !mkdtemp(root);
}

static int teardown(void **unused)
{
    (void)unused;
    return dc_remove_tree(root, NULL) || dc_path_exists(root);
}

/* A path below the test's folder; four may be in use at once. */
static const char *at(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

static void put(const char *path, const char *text)
{
    assert_int_equal(dc_file_write(path, text, strlen(text), NULL), 0);
}

static void holds(const char *path, const char *text)
{
    dc_str s = {0};
    dc_error err = {0};
    if (dc_file_read(&s, path, 1 << 20, &err)) fail_msg("%s", err.message);
    assert_string_equal(s.data, text);
    dc_str_release(&s);
}

static size_t names_in(const char *path)
{
    char **names;
    size_t n;
    assert_int_equal(dc_dir_list(&names, &n, path, NULL), DC_OK);
    dc_names_free(names);
    return n;
}

static void maps_read_files(void **unused)
{
    (void)unused;
    dc_map map;
    dc_error err = {0};
    put(at("m"), "some bytes");
    assert_int_equal(dc_map_open(&map, at("m"), &err), DC_OK);
    assert_int_equal(map.size, 10);
    assert_memory_equal(map.data, "some bytes", 10);
    assert_string_equal(map.path, at("m"));
    dc_map_close(&map);
    dc_map_close(&map);
    assert_null(map.data);
    put(at("m"), "");
    assert_int_equal(dc_map_open(&map, at("m"), &err), DC_OK);
    assert_int_equal(map.size, 0);
    assert_non_null(map.data);
    dc_map_close(&map);
    assert_int_equal(dc_map_open(&map, root, &err), DC_EIO);
    assert_non_null(strstr(err.message, "a directory"));
    err = (dc_error){0};
    assert_int_equal(dc_map_open(&map, at("absent"), &err), DC_EIO);
    assert_non_null(strstr(err.message, "absent: No such file"));
    dc_map_close(&map); /* what failed to open is closed */
    dc_alloc_fail_at(1);
    assert_int_equal(dc_map_open(&map, at("m"), NULL), DC_ENOMEM);
}

static void small_files_are_read_up_to_a_limit(void **unused)
{
    (void)unused;
    dc_str s = {0};
    dc_error err = {0};
    put(at("r"), "0123456789");
    dc_str_puts(&s, "before ");
    assert_int_equal(dc_file_read(&s, at("r"), 10, &err), DC_OK);
    assert_string_equal(s.data, "before 0123456789");
    assert_int_equal(dc_file_read(&s, at("r"), 9, &err), DC_EFORMAT);
    assert_string_equal(s.data, "before 0123456789");
    assert_non_null(strstr(err.message, "9 bytes"));
    dc_str_release(&s);
    put(at("r"), "");
    assert_int_equal(dc_file_read(&s, at("r"), 0, NULL), DC_OK);
    assert_int_equal(s.n, 0);
    assert_int_equal(s.data[0], 0);
    dc_str_release(&s);
    dc_alloc_fail_at(1);
    assert_int_equal(dc_file_read(&s, at("r"), 10, NULL), DC_ENOMEM);
    dc_str_release(&s);
    assert_int_equal(dc_file_read(&s, root, 10, NULL), DC_EIO);
    dc_str_release(&s);
}

static void commit_syncs_before_it_renames(void **unused)
{
    (void)unused;
    dc_writer w;
    put(at("c"), "old");
    assert_int_equal(dc_writer_open(&w, at("c"), NULL), DC_OK);
    assert_int_equal(dc_writer_put(&w, "new", 3, NULL), DC_OK);
    assert_int_equal(dc_writer_pad(&w, 8, NULL), DC_OK);
    assert_int_equal(w.size, 8);
    assert_int_equal(dc_writer_pad(&w, 8, NULL), DC_OK);
    assert_int_equal(w.size, 8);
    assert_int_equal(dc_writer_pad(&w, 1000, NULL), DC_OK); /* more zeros than one piece has */
    holds(at("c"), "old");
    assert_int_equal(dc_file_size(at("c.tmp")) >= 0, 1);
    calls[0] = 0;
    assert_int_equal(dc_writer_commit(&w, NULL), DC_OK);
    assert_string_equal(calls, "frd");
    dc_writer_abandon(&w);
    assert_int_equal(dc_file_size(at("c")), 1000);
    holds(at("c"), "new");
    assert_false(dc_path_exists(at("c.tmp")));
}

static void abandon_leaves_the_old_file(void **unused)
{
    (void)unused;
    dc_writer w;
    put(at("a"), "old");
    assert_int_equal(dc_writer_open(&w, at("a"), NULL), DC_OK);
    assert_int_equal(dc_writer_put(&w, "new", 3, NULL), DC_OK);
    dc_writer_abandon(&w);
    dc_writer_abandon(&w);
    holds(at("a"), "old");
    assert_false(dc_path_exists(at("a.tmp")));
    dc_error err = {0};
    assert_int_equal(dc_writer_open(&w, at("no/such/folder"), &err), DC_EIO);
    assert_non_null(strstr(err.message, "no/such/folder: No such file"));
    dc_writer_abandon(&w);
    for (long n = 1; n <= 2; n++) {
        dc_alloc_fail_at(n);
        assert_int_equal(dc_writer_open(&w, at("a"), NULL), DC_ENOMEM);
        dc_writer_abandon(&w);
    }
    dc_alloc_fail_at(0);
}

static void failed_sync_or_rename_keeps_the_old_file(void **unused)
{
    (void)unused;
    put(at("s"), "old");
    for (int k = 0; k < 3; k++) {
        dc_error err = {0};
        fsync_errno = k == 0 ? ENOSPC : k == 1 ? EIO : 0;
        rename_errno = k == 2 ? EACCES : 0;
        calls[0] = 0;
        const int rc = dc_file_write(at("s"), "new", 3, &err);
        fsync_errno = rename_errno = 0;
        assert_int_equal(rc, DC_EIO);
        assert_string_equal(calls, k < 2 ? "f" : "fr"); /* nothing is renamed that is not on the disk */
        if (k == 0) assert_non_null(strstr(err.message, "s: the disk is full"));
        holds(at("s"), "old");
        assert_false(dc_path_exists(at("s.tmp")));
    }
}

/* The part of the file is a link to /dev/full, which takes nothing: short texts fail when they are flushed, long ones
 * at once. */
static void full_device(size_t n, int use_file)
{
    dc_writer w;
    dc_error err = {0};
    char *bytes = calloc(1, n);
    put(at("d"), "old");
    if (symlink("/dev/full", at("d.tmp"))) fail_msg("no link");
    assert_int_equal(dc_writer_open(&w, at("d"), &err), DC_OK);
    if (use_file) fwrite(bytes, 1, n, w.file);
    else if (dc_writer_put(&w, bytes, n, &err)) {
        assert_non_null(strstr(err.message, "d: the disk is full"));
        err = (dc_error){0};
        assert_int_equal(dc_writer_put(&w, bytes, 1, &err), DC_EIO); /* and stays failed, with its reason */
        assert_non_null(strstr(err.message, "d: the disk is full"));
        err = (dc_error){0};
    }
    assert_int_equal(dc_writer_commit(&w, &err), DC_EIO);
    if (!use_file) assert_non_null(strstr(err.message, "d: the disk is full"));
    holds(at("d"), "old");
    assert_false(dc_path_exists(at("d.tmp")));
    free(bytes);
}

static void full_disk_is_told(void **unused)
{
    (void)unused;
    if (access("/dev/full", W_OK)) skip();
    full_device(10, 0);
    full_device(100000, 0);
    full_device(10, 1);
    full_device(100000, 1);
}

/* A disk that is full for a moment: what was refused is lost, though all later writes succeed. */
static void a_write_that_failed_once_fails_the_commit(void **unused)
{
    (void)unused;
    enum { N = 100000 };
    for (int use_file = 0; use_file < 2; use_file++) {
        struct rlimit before, small;
        dc_writer w;
        char *bytes = calloc(1, N);
        put(at("l"), "old");
        assert_int_equal(dc_writer_open(&w, at("l"), NULL), DC_OK);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        small = before;
        small.rlim_cur = 8192;
        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        const int refused = use_file ? fwrite(bytes, 1, N, w.file) != N : dc_writer_put(&w, bytes, N, NULL) != DC_OK;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        signal(SIGXFSZ, SIG_DFL);
        assert_true(refused);
        assert_int_equal(fflush(w.file), 0);
        assert_int_equal(dc_writer_commit(&w, NULL), DC_EIO);
        holds(at("l"), "old");
        assert_false(dc_path_exists(at("l.tmp")));
        free(bytes);
    }
}

/* In a child with a mount namespace of its own: 0 passed, 1 failed, 77 no such mounts here. */
static int on_a_small_tmpfs(const char *dir)
{
    if (unshare(CLONE_NEWNS) && unshare(CLONE_NEWUSER | CLONE_NEWNS)) return 77;
    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
    if (mount("tmpfs", dir, "tmpfs", 0, "size=64k")) return 77;
    char path[600];
    static char bytes[100000];
    dc_error err = {0};
    snprintf(path, sizeof path, "%s/file", dir);
    if (dc_file_write(path, "old", 3, NULL)) return 1;
    if (dc_file_write(path, bytes, sizeof bytes, &err) != DC_EIO || !strstr(err.message, "the disk is full")) return 2;
    if (dc_file_size(path) != 3) return 3;
    if (dc_disk_check(path, 1000, "export", NULL) || !dc_disk_check(path, 65536, "export", NULL)) return 4;
    return 0;
}

static int in_child(int (*fn)(const char *), const char *argument)
{
    int status = 0;
    const pid_t child = fork();
    if (child == 0) _exit(fn(argument));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void small_file_system_fills(void **unused)
{
    (void)unused;
    assert_int_equal(dc_mkdirs(at("tmpfs"), NULL), DC_OK);
    const int rc = in_child(on_a_small_tmpfs, at("tmpfs"));
    if (rc == 77) skip();
    assert_int_equal(rc, 0);
}

/* As a user without rights, which root is not. */
static int in_a_read_only_folder(const char *dir)
{
    if (geteuid() == 0 && seteuid(65534)) return 77;
    char path[600];
    dc_error err = {0};
    int fd;
    snprintf(path, sizeof path, "%s/file", dir);
    if (dc_file_write(path, "new", 3, &err) != DC_EIO || !strstr(err.message, "/file: Permission denied")) return 1;
    err = (dc_error){0};
    if (dc_lock_take(&fd, dir, &err) != DC_EIO || !strstr(err.message, ".lock: Permission denied")) return 2;
    snprintf(path, sizeof path, "%s/x/y", dir);
    if (dc_mkdirs(path, NULL) != DC_EIO) return 3;
    return dc_remove_tree(dir, NULL) == DC_EIO ? 0 : 4;
}

static void read_only_folders_are_told(void **unused)
{
    (void)unused;
    assert_int_equal(dc_mkdirs(at("ro"), NULL), DC_OK);
    put(at("ro/kept"), "kept");
    chmod(root, 0755);
    chmod(at("ro"), 0555);
    const int rc = in_child(in_a_read_only_folder, at("ro"));
    chmod(at("ro"), 0755);
    if (rc == 77) skip();
    assert_int_equal(rc, 0);
    holds(at("ro/kept"), "kept");
}

/* Writes the file over and over: n letters that tell n. */
static void write_for_ever(const char *path)
{
    static char text[60000];
    for (size_t n = 0;; n++) {
        const size_t size = 1 + n * 7919 % sizeof text;
        memset(text, 'a' + (int)(size % 26), size);
        if (dc_file_write(path, text, size, NULL)) _exit(1);
    }
}

static void a_kill_leaves_a_whole_file(void **unused)
{
    (void)unused;
    put(at("k"), "b");
    for (unsigned run = 0; run < 10; run++) {
        const pid_t child = fork();
        if (child == 0) write_for_ever(at("k"));
        usleep(5000 + run * 1700);
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        dc_str s = {0};
        assert_int_equal(dc_file_read(&s, at("k"), 1 << 20, NULL), DC_OK);
        assert_true(s.n > 0);
        for (size_t i = 0; i < s.n; i++) assert_int_equal(s.data[i], 'a' + s.n % 26);
        dc_str_release(&s);
    }
}

static void publish_and_copy(void **unused)
{
    (void)unused;
    dc_error err = {0};
    put(at("p.part"), "by another library");
    calls[0] = 0;
    assert_int_equal(dc_file_publish(at("p.part"), at("p"), &err), DC_OK);
    assert_string_equal(calls, "frd");
    holds(at("p"), "by another library");
    assert_false(dc_path_exists(at("p.part")));
    assert_int_equal(dc_file_publish(at("p.part"), at("p"), &err), DC_EIO);
    holds(at("p"), "by another library");
    assert_int_equal(dc_file_copy(at("p"), at("q"), NULL), DC_OK);
    holds(at("q"), "by another library");
    assert_int_equal(dc_file_copy(at("absent"), at("q"), NULL), DC_EIO);
    dc_stop_request(SIGTERM);
    put(at("p"), "newer");
    assert_int_equal(dc_file_copy(at("p"), at("q"), NULL), DC_ESTOPPED);
    dc_stop_request(0);
    for (long n = 1; n <= 3; n++) {
        dc_alloc_fail_at(n);
        assert_int_equal(dc_file_copy(at("p"), at("q"), NULL), DC_ENOMEM);
    }
    dc_alloc_fail_at(0);
    holds(at("q"), "by another library");
    assert_false(dc_path_exists(at("q.tmp")));
}

static void paths(void **unused)
{
    (void)unused;
    static const char *const joins[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a", "/b", "/b"},
                                           {"", "b", "b"},    {"/", "b", "/b"},   {"a/b", "c/d", "a/b/c/d"}};
    for (size_t i = 0; i < sizeof joins / sizeof *joins; i++) {
        char *path = dc_path_join(joins[i][0], joins[i][1]);
        assert_string_equal(path, joins[i][2]);
        dc_free(path);
    }
    assert_string_equal(dc_path_base("a/b.gguf"), "b.gguf");
    assert_string_equal(dc_path_base("b.gguf"), "b.gguf");
    put(at("x"), "12345");
    assert_int_equal(dc_file_size(at("x")), 5);
    assert_int_equal(dc_file_size(at("absent")), -1);
    assert_int_equal(dc_file_size(root), -1);
    assert_true(dc_path_exists(at("x")) && dc_path_is_dir(root) && !dc_path_is_dir(at("x")));
}

static void directories_are_made_listed_and_removed(void **unused)
{
    (void)unused;
    dc_error err = {0};
    assert_int_equal(dc_mkdirs(at("t/a//b/"), &err), DC_OK);
    assert_int_equal(dc_mkdirs(at("t/a/b"), &err), DC_OK);
    assert_true(dc_path_is_dir(at("t/a/b")));
    assert_int_equal(dc_mkdirs("/", &err), DC_OK);
    put(at("t/file"), "x");
    assert_int_equal(dc_mkdirs(at("t/file/below"), &err), DC_EIO);
    assert_non_null(strstr(err.message, "t/file: Not a directory"));
    assert_int_equal(dc_mkdirs("", NULL), DC_EIO);
    put(at("t/Z"), "x");
    put(at("t/.hidden"), "x");
    assert_int_equal(dc_mkdirs(at("outside"), NULL), DC_OK);
    put(at("outside/file"), "kept");
    assert_int_equal(symlink(at("outside"), at("t/link")), 0);
    char **names;
    size_t n;
    assert_int_equal(dc_dir_list(&names, &n, at("t"), NULL), DC_OK);
    static const char *const sorted[] = {".hidden", "Z", "a", "file", "link"};
    assert_int_equal(n, 5);
    for (size_t i = 0; i < n; i++) assert_string_equal(names[i], sorted[i]);
    assert_null(names[n]);
    dc_names_free(names);
    dc_names_free(NULL);
    long fails = 1;
    for (;; fails++) {
        dc_alloc_fail_at(fails);
        const int rc = dc_dir_list(&names, &n, at("t"), NULL);
        dc_alloc_fail_at(0);
        if (rc == DC_OK) break;
        assert_int_equal(rc, DC_ENOMEM);
    }
    assert_true(fails == 7); /* five names and one array */
    dc_names_free(names);
    assert_int_equal(dc_dir_list(&names, &n, at("absent"), NULL), DC_EIO);
    assert_int_equal(dc_remove_tree(at("t"), &err), DC_OK);
    assert_false(dc_path_exists(at("t")));
    assert_int_equal(dc_remove_tree(at("t"), NULL), DC_OK);
    holds(at("outside/file"), "kept"); /* a link goes, not what it points to */
    assert_int_equal(dc_remove_tree(at("outside"), NULL), DC_OK);
    assert_false(dc_path_exists(at("outside")));
}

static void directories_are_published_whole(void **unused)
{
    (void)unused;
    dc_error err = {0};
    assert_int_equal(dc_mkdirs(at("ckpt.part/sub"), NULL), DC_OK);
    put(at("ckpt.part/model"), "m");
    put(at("ckpt.part/sub/state"), "s");
    calls[0] = 0;
    assert_int_equal(dc_dir_publish(at("ckpt.part"), at("ckpt"), &err), DC_OK);
    assert_string_equal(calls, "ffddd"); /* model, state, sub, the directory, its parent; renameat2 is not rename */
    holds(at("ckpt/sub/state"), "s");
    assert_false(dc_path_exists(at("ckpt.part")));
    assert_int_equal(dc_mkdirs(at("ckpt2.part"), NULL), DC_OK);
    assert_int_equal(dc_dir_publish(at("ckpt2.part"), at("ckpt"), &err), DC_EIO);
    assert_non_null(strstr(err.message, "ckpt: File exists"));
    assert_int_equal(dc_mkdirs(at("empty"), NULL), DC_OK);
    assert_int_equal(dc_dir_publish(at("ckpt2.part"), at("empty"), NULL), DC_EIO);
    assert_true(dc_path_is_dir(at("ckpt2.part")));
    fsync_errno = EIO;
    assert_int_equal(dc_dir_publish(at("ckpt2.part"), at("ckpt2"), NULL), DC_EIO);
    fsync_errno = 0;
    assert_false(dc_path_exists(at("ckpt2")));
    assert_int_equal(names_in(at("ckpt")), 2);
}

static void free_space_is_checked_with_both_figures(void **unused)
{
    (void)unused;
    dc_error err = {0};
    assert_int_equal(dc_disk_check(root, 1, "teach", &err), DC_OK);
    assert_int_equal(dc_disk_check(at("not/yet/there"), 1, "teach", &err), DC_OK);
    assert_int_equal(dc_disk_check("not/yet/there", 1, "teach", &err), DC_OK);
    assert_int_equal(dc_disk_check("", 1, "teach", &err), DC_OK);
    assert_int_equal(dc_disk_check("/not/yet", 0, "teach", &err), DC_OK);
    assert_int_equal(dc_disk_check(root, INT64_MAX, "teach", &err), DC_EIO);
    assert_memory_equal(err.message, "teach needs 9.2 EB of disk", 26);
    assert_non_null(strstr(err.message, root));
    assert_non_null(strstr(err.message, "B free"));
}

/* Takes the lock, tells so, and holds it until it is killed. */
static pid_t lock_holder(const char *dir)
{
    int ends[2];
    char ok = 0;
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        int fd;
        if (dc_lock_take(&fd, dir, NULL)) _exit(1);
        if (write(ends[1], "y", 1) != 1) _exit(1);
        for (;;) pause();
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &ok, 1), 1);
    close(ends[0]);
    return child;
}

static void locks_name_their_holder_and_die_with_it(void **unused)
{
    (void)unused;
    dc_error err = {0};
    int fd = -1, second = -1, status;
    char wanted[64];
    const pid_t child = lock_holder(root);
    assert_int_equal(dc_lock_take(&fd, root, &err), DC_EMISMATCH);
    snprintf(wanted, sizeof wanted, "is in use by process %ld.", (long)child);
    assert_non_null(strstr(err.message, wanted));
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    err = (dc_error){0};
    assert_int_equal(dc_lock_take(&fd, root, &err), DC_OK);
    snprintf(wanted, sizeof wanted, "%ld\n", (long)getpid());
    holds(at(".lock"), wanted);
    assert_int_equal(dc_lock_take(&second, root, &err), DC_EMISMATCH);
    dc_lock_release(fd);
    assert_int_equal(dc_lock_take(&fd, root, NULL), DC_OK);
    dc_lock_release(fd);
    dc_lock_release(-1);
    assert_int_equal(dc_lock_take(&fd, at("absent"), NULL), DC_EIO);
}

/* A link to itself stands for what no test may break: a disk that does not tell what it holds. */
static void what_the_disk_refuses_is_not_absent(void **state)
{
    (void)state;
    dc_path_info there;
    dc_error err = {0};
    assert_int_equal(dc_path_look(&there, at("nowhere"), &err), DC_OK);
    assert_true(!there.exists && !there.is_dir && there.size == -1);
    assert_int_equal(dc_file_write(at("looked"), "abc", 3, NULL), DC_OK);
    assert_int_equal(dc_path_look(&there, at("looked"), &err), DC_OK);
    assert_true(there.exists && !there.is_dir && there.size == 3);
    assert_int_equal(dc_path_look(&there, at("looked/below"), &err), DC_OK);
    assert_false(there.exists);
    assert_int_equal(dc_path_look(&there, root, &err), DC_OK);
    assert_true(there.exists && there.is_dir && there.size == -1);
    assert_int_equal(symlink("loop", at("loop")), 0);
    assert_int_equal(dc_path_look(&there, at("loop"), &err), DC_EIO);
    assert_non_null(strstr(err.message, at("loop")));
    assert_false(there.exists);
    char **names;
    size_t n = 7;
    assert_int_equal(dc_dir_list_if(&names, &n, at("nowhere"), &err), DC_OK);
    assert_true(n == 0 && !names);
    assert_int_equal(dc_dir_list_if(&names, &n, at("loop"), &err), DC_EIO);
    assert_int_equal(dc_dir_list_if(&names, &n, at("looked"), &err), DC_EIO); /* a file is there */
    assert_int_equal(dc_dir_list_if(&names, &n, root, &err), DC_OK);
    assert_true(n > 0);
    dc_names_free(names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_read_files),
        cmocka_unit_test(small_files_are_read_up_to_a_limit),
        cmocka_unit_test(commit_syncs_before_it_renames),
        cmocka_unit_test(abandon_leaves_the_old_file),
        cmocka_unit_test(failed_sync_or_rename_keeps_the_old_file),
        cmocka_unit_test(full_disk_is_told),
        cmocka_unit_test(a_write_that_failed_once_fails_the_commit),
        cmocka_unit_test(small_file_system_fills),
        cmocka_unit_test(read_only_folders_are_told),
        cmocka_unit_test(a_kill_leaves_a_whole_file),
        cmocka_unit_test(publish_and_copy),
        cmocka_unit_test(paths),
        cmocka_unit_test(what_the_disk_refuses_is_not_absent),
        cmocka_unit_test(directories_are_made_listed_and_removed),
        cmocka_unit_test(directories_are_published_whole),
        cmocka_unit_test(free_space_is_checked_with_both_figures),
        cmocka_unit_test(locks_name_their_holder_and_die_with_it),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
