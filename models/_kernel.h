/* What the compiled parts have in common: how they read arrays. */

#define Py_LIMITED_API 0x030B0000
#include <Python.h>

/* Each takes a view of an array, or raises TypeError. */
int whole(PyObject *object, Py_buffer *view, int writable);  /* of doubles, in one piece */
int column(PyObject *object, Py_buffer *view, Py_ssize_t rows);  /* of so many doubles */
int bytes_of(PyObject *object, Py_buffer *view, int writable, const char *format);  /* in one piece */

extern const char windows_doc[];
PyObject *py_windows(PyObject *module, PyObject *const *args, Py_ssize_t count);
