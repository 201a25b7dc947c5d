package hsm

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>

// What is needed of CK_FUNCTION_LIST (PKCS#11 section 3.6): its functions come in
// a fixed order.
struct functions {
	unsigned char version[2];
	void *all[68];
};

enum { C_SIGN = 43 };

// What the wrapper keeps of a module.
struct wrapped {
	void *library;
	struct functions *list;
};

typedef unsigned long (*c_sign)(unsigned long, unsigned char *, unsigned long, unsigned char *, unsigned long *);

// c_sign_of finds C_Sign in the wrapper's own list of functions, since some
// modules give each who asks another list, with a state of its own. That the
// wrapper keeps it where we look shows in the library, which dlopen names again.
static void *c_sign_of(const struct wrapped *w, const char *path)
{
	void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD), *sign = NULL;

	if (!library)
		return NULL;
	if (w && w->library == library && w->list)
		sign = w->list->all[C_SIGN];
	dlclose(library);
	return sign;
}

static unsigned long call_sign(void *sign, unsigned long session, unsigned char *data, unsigned long length, unsigned char *signature, unsigned long *size)
{
	return ((c_sign)sign)(session, data, length, signature, size);
}
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// maxSignature is the size of the longest signature that is asked for, RSA 4096.
const maxSignature = 512

// binding is the wrapper's, but for Sign. The wrapper's calls C_Sign twice, the
// first time for the length: on a remote HSM that is one of three round trips of a
// signature. Whose length is bounded needs no asking.
type binding struct {
	*pkcs11.Ctx
	sign unsafe.Pointer
}

// bind finds C_Sign in the library that the wrapper has loaded from there.
func bind(p11 *pkcs11.Ctx, path string) (*binding, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	kept := *(**C.struct_wrapped)(unsafe.Pointer(p11)) // its one field points there
	sign := C.c_sign_of(kept, name)
	if sign == nil {
		return nil, fmt.Errorf("%w: %s has no C_Sign where it belongs", ErrModule, path)
	}
	return &binding{Ctx: p11, sign: sign}, nil
}

// Sign is C_Sign with room for the longest signature. After any error, too small
// a room included, the operation may still be active.
func (b *binding) Sign(session pkcs11.SessionHandle, data []byte) ([]byte, error) {
	signature, size := make([]byte, maxSignature), C.ulong(maxSignature)
	rv := C.call_sign(b.sign, C.ulong(session), (*C.uchar)(unsafe.SliceData(data)), C.ulong(len(data)),
		(*C.uchar)(unsafe.SliceData(signature)), &size)
	if rv != pkcs11.CKR_OK {
		return nil, pkcs11.Error(rv)
	}
	return signature[:min(size, maxSignature)], nil
}
