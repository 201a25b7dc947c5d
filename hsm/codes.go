package hsm

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// class says what an error of PKCS#11 means for the sessions, the login and the
// request that met it.
type class uint8

const (
	sessionClass   class = iota // this session is no good: replace it, repeat the request once
	loginClass                  // the login or the key's handle is gone: log in, find the key, repeat once
	deviceClass                 // the token or the way to it: repeat once on a new session, else unavailable
	requestClass                // the request's fault, which is ours: repeating gives the same
	permanentClass              // somebody must do something first: the token says no for good
)

// code is one row of the table of return values.
type code struct {
	name  string
	class class
	why   string
}

// classOf returns the class of err. What is no return value of PKCS#11, a panic
// in the wrapper for instance, says nothing good of its session.
func classOf(err error) class {
	var rv pkcs11.Error
	if _, lack := errors.AsType[*lackError](err); lack {
		return requestClass
	}
	switch {
	case errors.Is(err, ErrPINIncorrect), errors.Is(err, ErrPINLocked), errors.Is(err, ErrNoKey),
		errors.Is(err, ErrKeyMismatch), errors.Is(err, ErrClosed):
		return permanentClass
	case errors.As(err, &rv):
		return callClass(err, lookup(rv).class)
	}
	return sessionClass
}

// callClass is the class of an error of a call: only what signs is told anything
// of a request's.
func callClass(err error, c class) class {
	call, ok := errors.AsType[*callError](err)
	if ok && c == requestClass && call.function != "C_SignInit" && call.function != "C_Sign" {
		return deviceClass
	}
	return c
}

// lookup returns the row of a return value. Vendors' own and unknown ones are
// taken for the device's trouble.
func lookup(rv pkcs11.Error) code {
	if c, ok := codes[rv]; ok {
		return c
	}
	return code{fmt.Sprintf("CKR 0x%08X", uint(rv)), deviceClass, "a return value of the vendor's own"}
}

// called names the function of PKCS#11 that gave err, and what err means.
func called(function string, err error) error {
	if err == nil {
		return nil
	}
	return &callError{function: function, err: err}
}

type callError struct {
	function string
	err      error
}

func (e *callError) Error() string {
	var rv pkcs11.Error
	if !errors.As(e.err, &rv) {
		return e.function + ": " + e.err.Error()
	}
	c := lookup(rv)
	return fmt.Sprintf("%s: %s (%s)", e.function, c.name, c.why)
}

func (e *callError) Unwrap() error { return e.err }

// codes classifies the return values of PKCS#11 v2.40 (section 5.1) by what they
// mean to a service that logs in, finds one key and signs. Those that such a
// service cannot meet are the request's fault: we must have asked wrongly.
var codes = map[pkcs11.Error]code{
	// Section 5.1.1, any function.
	pkcs11.CKR_GENERAL_ERROR:   {"CKR_GENERAL_ERROR", deviceClass, "the library or token is in an unknown state"},
	pkcs11.CKR_HOST_MEMORY:     {"CKR_HOST_MEMORY", deviceClass, "this machine is out of memory"},
	pkcs11.CKR_FUNCTION_FAILED: {"CKR_FUNCTION_FAILED", sessionClass, "the function failed without saying why; the session may still be named"},

	// Section 5.1.2, functions that use a session.
	pkcs11.CKR_SESSION_HANDLE_INVALID: {"CKR_SESSION_HANDLE_INVALID", sessionClass, "the token does not know this session any more"},
	pkcs11.CKR_SESSION_CLOSED:         {"CKR_SESSION_CLOSED", sessionClass, "the session was closed while the call ran"},
	pkcs11.CKR_DEVICE_REMOVED:         {"CKR_DEVICE_REMOVED", deviceClass, "the token was removed while the call ran"},

	// Section 5.1.3, functions that use a token.
	pkcs11.CKR_DEVICE_MEMORY:        {"CKR_DEVICE_MEMORY", deviceClass, "the token is out of memory"},
	pkcs11.CKR_DEVICE_ERROR:         {"CKR_DEVICE_ERROR", deviceClass, "the token, or the way to it, has a problem"},
	pkcs11.CKR_TOKEN_NOT_PRESENT:    {"CKR_TOKEN_NOT_PRESENT", deviceClass, "the token is not in its slot"},
	pkcs11.CKR_TOKEN_NOT_RECOGNIZED: {"CKR_TOKEN_NOT_RECOGNIZED", deviceClass, "the library does not recognise the token"},
	pkcs11.CKR_SLOT_ID_INVALID:      {"CKR_SLOT_ID_INVALID", deviceClass, "the slots have changed"},

	// Section 5.1.6: the library.
	pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED:     {"CKR_CRYPTOKI_NOT_INITIALIZED", deviceClass, "somebody in this process finalised the library"},
	pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED: {"CKR_CRYPTOKI_ALREADY_INITIALIZED", permanentClass, "somebody else in this process owns the library"},
	pkcs11.CKR_CANT_LOCK:                    {"CKR_CANT_LOCK", permanentClass, "the library cannot be used by several threads"},
	pkcs11.CKR_NEED_TO_CREATE_THREADS:       {"CKR_NEED_TO_CREATE_THREADS", permanentClass, "the library must be allowed threads"},
	pkcs11.CKR_LIBRARY_LOAD_FAILED:          {"CKR_LIBRARY_LOAD_FAILED", permanentClass, "the library could not load one that it needs"},
	pkcs11.CKR_FIPS_SELF_TEST_FAILED:        {"CKR_FIPS_SELF_TEST_FAILED", permanentClass, "the module's self-test failed"},
	pkcs11.CKR_FUNCTION_NOT_SUPPORTED:       {"CKR_FUNCTION_NOT_SUPPORTED", permanentClass, "the library lacks this function"},
	pkcs11.CKR_FUNCTION_NOT_PARALLEL:        {"CKR_FUNCTION_NOT_PARALLEL", requestClass, "parallel functions do not exist"},
	pkcs11.CKR_MUTEX_BAD:                    {"CKR_MUTEX_BAD", permanentClass, "the library wants mutexes of ours, and gets the system's"},
	pkcs11.CKR_MUTEX_NOT_LOCKED:             {"CKR_MUTEX_NOT_LOCKED", permanentClass, "the library wants mutexes of ours, and gets the system's"},

	// Sessions and operations.
	pkcs11.CKR_SESSION_COUNT:                  {"CKR_SESSION_COUNT", deviceClass, "the token has no session left: others hold them"},
	pkcs11.CKR_SESSION_READ_ONLY:              {"CKR_SESSION_READ_ONLY", requestClass, "the session may not write"},
	pkcs11.CKR_SESSION_EXISTS:                 {"CKR_SESSION_EXISTS", permanentClass, "a session is open with the token that is to be initialised"},
	pkcs11.CKR_SESSION_READ_ONLY_EXISTS:       {"CKR_SESSION_READ_ONLY_EXISTS", permanentClass, "a read-only session keeps the security officer out"},
	pkcs11.CKR_SESSION_READ_WRITE_SO_EXISTS:   {"CKR_SESSION_READ_WRITE_SO_EXISTS", permanentClass, "the security officer is logged in"},
	pkcs11.CKR_SESSION_PARALLEL_NOT_SUPPORTED: {"CKR_SESSION_PARALLEL_NOT_SUPPORTED", requestClass, "sessions must be serial"},
	pkcs11.CKR_OPERATION_ACTIVE:               {"CKR_OPERATION_ACTIVE", sessionClass, "an earlier operation was never finished in this session"},
	pkcs11.CKR_OPERATION_NOT_INITIALIZED:      {"CKR_OPERATION_NOT_INITIALIZED", sessionClass, "the session has lost its operation"},
	pkcs11.CKR_FUNCTION_CANCELED:              {"CKR_FUNCTION_CANCELED", sessionClass, "the token cancelled the call"},
	pkcs11.CKR_CANCEL:                         {"CKR_CANCEL", sessionClass, "somebody cancelled the call"},
	pkcs11.CKR_FUNCTION_REJECTED:              {"CKR_FUNCTION_REJECTED", permanentClass, "somebody at the token said no"},
	pkcs11.CKR_BUFFER_TOO_SMALL:               {"CKR_BUFFER_TOO_SMALL", sessionClass, "the token changed its mind about a length"},
	pkcs11.CKR_SAVED_STATE_INVALID:            {"CKR_SAVED_STATE_INVALID", requestClass, "no state is ever saved"},
	pkcs11.CKR_STATE_UNSAVEABLE:               {"CKR_STATE_UNSAVEABLE", requestClass, "no state is ever saved"},
	pkcs11.CKR_NO_EVENT:                       {"CKR_NO_EVENT", requestClass, "no events are waited for"},
	pkcs11.CKR_EXCEEDED_MAX_ITERATIONS:        {"CKR_EXCEEDED_MAX_ITERATIONS", sessionClass, "the token ran out of tries to find a number"},

	// The login.
	pkcs11.CKR_USER_NOT_LOGGED_IN:             {"CKR_USER_NOT_LOGGED_IN", loginClass, "the token has logged the user out"},
	pkcs11.CKR_USER_ALREADY_LOGGED_IN:         {"CKR_USER_ALREADY_LOGGED_IN", loginClass, "the user is logged in already"},
	pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN: {"CKR_USER_ANOTHER_ALREADY_LOGGED_IN", permanentClass, "another user is logged in in this process"},
	pkcs11.CKR_USER_TOO_MANY_TYPES:            {"CKR_USER_TOO_MANY_TYPES", permanentClass, "too many sorts of user are logged in"},
	pkcs11.CKR_USER_TYPE_INVALID:              {"CKR_USER_TYPE_INVALID", permanentClass, "the token has no such user"},
	pkcs11.CKR_USER_PIN_NOT_INITIALIZED:       {"CKR_USER_PIN_NOT_INITIALIZED", permanentClass, "the token has no user PIN yet"},
	pkcs11.CKR_PIN_INCORRECT:                  {"CKR_PIN_INCORRECT", permanentClass, "wrong PIN: another try brings the lock nearer"},
	pkcs11.CKR_PIN_INVALID:                    {"CKR_PIN_INVALID", permanentClass, "the PIN has characters that the token refuses"},
	pkcs11.CKR_PIN_LEN_RANGE:                  {"CKR_PIN_LEN_RANGE", permanentClass, "the PIN is too short or too long for the token"},
	pkcs11.CKR_PIN_EXPIRED:                    {"CKR_PIN_EXPIRED", permanentClass, "the PIN has expired and must be changed"},
	pkcs11.CKR_PIN_LOCKED:                     {"CKR_PIN_LOCKED", permanentClass, "too many wrong PINs: the security officer must set a new one"},
	pkcs11.CKR_PIN_TOO_WEAK:                   {"CKR_PIN_TOO_WEAK", permanentClass, "the token wants a better PIN"},
	pkcs11.CKR_NEW_PIN_MODE:                   {"CKR_NEW_PIN_MODE", permanentClass, "one-time passwords are not supported"},
	pkcs11.CKR_NEXT_OTP:                       {"CKR_NEXT_OTP", permanentClass, "one-time passwords are not supported"},

	// The key.
	pkcs11.CKR_KEY_HANDLE_INVALID:            {"CKR_KEY_HANDLE_INVALID", loginClass, "the key's handle is gone, with its login or its session"},
	pkcs11.CKR_OBJECT_HANDLE_INVALID:         {"CKR_OBJECT_HANDLE_INVALID", loginClass, "the object's handle is gone, with its login or its session"},
	pkcs11.CKR_KEY_CHANGED:                   {"CKR_KEY_CHANGED", loginClass, "the key is not the one that the operation began with"},
	pkcs11.CKR_KEY_SIZE_RANGE:                {"CKR_KEY_SIZE_RANGE", permanentClass, "the token does not sign with keys of this size"},
	pkcs11.CKR_KEY_TYPE_INCONSISTENT:         {"CKR_KEY_TYPE_INCONSISTENT", permanentClass, "the key is not of the mechanism's type"},
	pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED:    {"CKR_KEY_FUNCTION_NOT_PERMITTED", permanentClass, "the key's attributes forbid signing"},
	pkcs11.CKR_MECHANISM_INVALID:             {"CKR_MECHANISM_INVALID", permanentClass, "the token does not offer this mechanism"},
	pkcs11.CKR_MECHANISM_PARAM_INVALID:       {"CKR_MECHANISM_PARAM_INVALID", permanentClass, "the token wants other parameters for this mechanism"},
	pkcs11.CKR_ACTION_PROHIBITED:             {"CKR_ACTION_PROHIBITED", permanentClass, "the token's policy forbids it"},
	pkcs11.CKR_TOKEN_WRITE_PROTECTED:         {"CKR_TOKEN_WRITE_PROTECTED", permanentClass, "the token is write-protected"},
	pkcs11.CKR_RANDOM_NO_RNG:                 {"CKR_RANDOM_NO_RNG", permanentClass, "the token has no source of randomness"},
	pkcs11.CKR_KEY_NOT_NEEDED:                {"CKR_KEY_NOT_NEEDED", requestClass, "a key too many was given"},
	pkcs11.CKR_KEY_NEEDED:                    {"CKR_KEY_NEEDED", requestClass, "a key is missing"},
	pkcs11.CKR_KEY_INDIGESTIBLE:              {"CKR_KEY_INDIGESTIBLE", requestClass, "keys are not digested here"},
	pkcs11.CKR_KEY_NOT_WRAPPABLE:             {"CKR_KEY_NOT_WRAPPABLE", requestClass, "keys are not wrapped here"},
	pkcs11.CKR_KEY_UNEXTRACTABLE:             {"CKR_KEY_UNEXTRACTABLE", requestClass, "keys are not extracted here"},
	pkcs11.CKR_PUBLIC_KEY_INVALID:            {"CKR_PUBLIC_KEY_INVALID", requestClass, "the public key is malformed"},
	pkcs11.CKR_DOMAIN_PARAMS_INVALID:         {"CKR_DOMAIN_PARAMS_INVALID", requestClass, "RSA has no domain parameters"},
	pkcs11.CKR_CURVE_NOT_SUPPORTED:           {"CKR_CURVE_NOT_SUPPORTED", requestClass, "RSA has no curve"},
	pkcs11.CKR_RANDOM_SEED_NOT_SUPPORTED:     {"CKR_RANDOM_SEED_NOT_SUPPORTED", requestClass, "the token is never seeded"},
	pkcs11.CKR_INFORMATION_SENSITIVE:         {"CKR_INFORMATION_SENSITIVE", requestClass, "the value is secret"},
	pkcs11.CKR_UNWRAPPING_KEY_HANDLE_INVALID: {"CKR_UNWRAPPING_KEY_HANDLE_INVALID", requestClass, "keys are not unwrapped here"},

	// What we ask with.
	pkcs11.CKR_ARGUMENTS_BAD:                    {"CKR_ARGUMENTS_BAD", requestClass, "the arguments do not fit the function"},
	pkcs11.CKR_DATA_INVALID:                     {"CKR_DATA_INVALID", requestClass, "the data do not fit the mechanism"},
	pkcs11.CKR_DATA_LEN_RANGE:                   {"CKR_DATA_LEN_RANGE", requestClass, "the data are too short or too long for the key"},
	pkcs11.CKR_ATTRIBUTE_READ_ONLY:              {"CKR_ATTRIBUTE_READ_ONLY", requestClass, "the attribute cannot be set"},
	pkcs11.CKR_ATTRIBUTE_SENSITIVE:              {"CKR_ATTRIBUTE_SENSITIVE", requestClass, "the attribute is secret"},
	pkcs11.CKR_ATTRIBUTE_TYPE_INVALID:           {"CKR_ATTRIBUTE_TYPE_INVALID", requestClass, "the object has no such attribute"},
	pkcs11.CKR_ATTRIBUTE_VALUE_INVALID:          {"CKR_ATTRIBUTE_VALUE_INVALID", requestClass, "the token refuses an attribute's value"},
	pkcs11.CKR_TEMPLATE_INCOMPLETE:              {"CKR_TEMPLATE_INCOMPLETE", requestClass, "the token wants more attributes"},
	pkcs11.CKR_TEMPLATE_INCONSISTENT:            {"CKR_TEMPLATE_INCONSISTENT", requestClass, "the token refuses the attributes together"},
	pkcs11.CKR_ENCRYPTED_DATA_INVALID:           {"CKR_ENCRYPTED_DATA_INVALID", requestClass, "nothing is decrypted here"},
	pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE:         {"CKR_ENCRYPTED_DATA_LEN_RANGE", requestClass, "nothing is decrypted here"},
	pkcs11.CKR_SIGNATURE_INVALID:                {"CKR_SIGNATURE_INVALID", requestClass, "the token verifies nothing for us"},
	pkcs11.CKR_SIGNATURE_LEN_RANGE:              {"CKR_SIGNATURE_LEN_RANGE", requestClass, "the token verifies nothing for us"},
	pkcs11.CKR_UNWRAPPING_KEY_SIZE_RANGE:        {"CKR_UNWRAPPING_KEY_SIZE_RANGE", requestClass, "keys are not unwrapped here"},
	pkcs11.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT: {"CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT", requestClass, "keys are not unwrapped here"},
	pkcs11.CKR_WRAPPED_KEY_INVALID:              {"CKR_WRAPPED_KEY_INVALID", requestClass, "keys are not unwrapped here"},
	pkcs11.CKR_WRAPPED_KEY_LEN_RANGE:            {"CKR_WRAPPED_KEY_LEN_RANGE", requestClass, "keys are not unwrapped here"},
	pkcs11.CKR_WRAPPING_KEY_HANDLE_INVALID:      {"CKR_WRAPPING_KEY_HANDLE_INVALID", requestClass, "keys are not wrapped here"},
	pkcs11.CKR_WRAPPING_KEY_SIZE_RANGE:          {"CKR_WRAPPING_KEY_SIZE_RANGE", requestClass, "keys are not wrapped here"},
	pkcs11.CKR_WRAPPING_KEY_TYPE_INCONSISTENT:   {"CKR_WRAPPING_KEY_TYPE_INCONSISTENT", requestClass, "keys are not wrapped here"},
}
