# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The plan in C: the common forms of every node, and nothing else.

Whatever is not common (a wrong type, a number out of range, a truncated body, but also a Decimal
with an exponent or a mapping that is no dict) is declined here and decided by `_python`, which
either does it or says why not. So there is one set of errors, and no form is refused by mistake.

Output is written to a buffer on the stack: no state is shared between threads.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.datetime cimport (
    PyDateTime_DateTime,
    PyDateTime_CheckExact,
    datetime_day, datetime_hour, datetime_microsecond, datetime_minute, datetime_month,
    datetime_new, datetime_second, datetime_tzinfo, datetime_year,
    import_datetime,
)
from cpython.dict cimport PyDict_Copy, PyDict_GetItemWithError, PyDict_Next, PyDict_SetItem, PyDict_Size
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject, PyObject_GetAttr
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcmp, memcpy

from sys import intern
from datetime import timezone
from decimal import Decimal
from uuid import UUID, SafeUUID

cdef extern from *:
    """
    #ifndef K2_SOURCE_DIGEST
    #define K2_SOURCE_DIGEST ""
    #endif
    static const char *k2_source_digest = K2_SOURCE_DIGEST;

    static inline int k2_bit_length(uint64_t value) {
        int bits = 0;
    #if defined(__GNUC__) || defined(__clang__)
        bits = value ? 64 - __builtin_clzll(value) : 0;
    #else
        while (value) { bits++; value >>= 1; }
    #endif
        return bits;
    }

    static inline uint64_t k2_swap_bytes(uint64_t value) {
    #if defined(__GNUC__) || defined(__clang__)
        return __builtin_bswap64(value);
    #else
        uint64_t out = 0;
        for (int i = 0; i < 8; i++) { out = (out << 8) | (value & 0xFF); value >>= 8; }
        return out;
    #endif
    }

    /* 1 where a character is a hexadecimal digit. */
    static const unsigned char k2_is_hex[256] = {
        ['0'] = 1, ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1, ['6'] = 1, ['7'] = 1,
        ['8'] = 1, ['9'] = 1, ['a'] = 1, ['b'] = 1, ['c'] = 1, ['d'] = 1, ['e'] = 1, ['f'] = 1,
        ['A'] = 1, ['B'] = 1, ['C'] = 1, ['D'] = 1, ['E'] = 1, ['F'] = 1,
    };

    static inline int k2_is_ascii(const char *data, Py_ssize_t size) {
        uint64_t seen = 0, word;
        for (; size >= 8; data += 8, size -= 8) { memcpy(&word, data, 8); seen |= word; }
        for (; size > 0; data++, size--) seen |= (unsigned char) *data;
        return (seen & 0x8080808080808080ULL) == 0;
    }
    """
    const char *k2_source_digest
    int bit_length "k2_bit_length"(uint64_t value) noexcept
    uint64_t swap_bytes "k2_swap_bytes"(uint64_t value) noexcept
    bint is_ascii "k2_is_ascii"(const char *data, Py_ssize_t size) noexcept
    const unsigned char *IS_HEX "k2_is_hex"

cdef extern from "structmember.h":
    ctypedef struct PyMemberDef:
        int type
        Py_ssize_t offset
    int T_OBJECT_EX

cdef extern from "Python.h":
    ctypedef struct PyMemberDescrObject:
        PyMemberDef *d_member
    int PyLong_CheckExact(object value)
    int PyUnicode_CheckExact(object value)
    int PyUnicode_IS_COMPACT_ASCII(object value)
    Py_ssize_t PyUnicode_GET_LENGTH(object value)
    void *PyUnicode_DATA(object value)
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    int PyFloat_CheckExact(object value)
    int PyBytes_CheckExact(object value)
    int PyTuple_CheckExact(object value)
    int PyList_CheckExact(object value)
    int PyDict_CheckExact(object value)
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1
    const char *PyUnicode_AsUTF8AndSize(object value, Py_ssize_t *size) except NULL
    object PyUnicode_DecodeUTF8(const char *data, Py_ssize_t size, const char *errors)
    void PyErr_SetNone(object kind)
    object PyLong_FromLongLong(long long value)
    object PyLong_FromString(const char *text, char **end, int base)
    ctypedef struct PyTypeObject:
        object (*tp_new)(object kind, object arguments, PyObject *keywords)
        object (*tp_alloc)(object kind, Py_ssize_t items)

import_datetime()

SOURCE_DIGEST = k2_source_digest.decode()

class _OneSlot:
    __slots__ = ("slot",)


cdef object _SlotDescriptor = type(_OneSlot.slot)
cdef object _UTC = timezone.utc
cdef object _Decimal = Decimal
cdef object _UUID = UUID
cdef object _UNKNOWN_SAFETY = SafeUUID.unknown

cdef enum:
    BOOLEAN = 1
    INT = 2
    LONG = 3
    DOUBLE = 4
    BYTES = 5
    STRING = 6
    UUID_TEXT = 7
    ENUM = 8
    DECIMAL = 9
    TIMESTAMP_MILLIS = 10
    TIMESTAMP_MICROS = 11
    ARRAY = 12
    MAP = 13
    RECORD = 14

    STACK_BYTES = 2048
    MAX_ATTRIBUTES = 64
    NATIVE_DIGITS = 18

cdef int64_t FIRST_MICROS = -62135596800000000
cdef int64_t LAST_MICROS = 253402300799999999
cdef int64_t FIRST_MILLIS = -62135596800000
cdef int64_t LAST_MILLIS = 253402300799999

cdef int64_t[19] TEN_TO
cdef int _power
TEN_TO[0] = 1
for _power in range(1, 19):
    TEN_TO[_power] = TEN_TO[_power - 1] * 10


TRADE_SLOTS = (
    "trade_id", "symbol", "exchange", "timestamp_us", "price_units", "quantity_units", "currency",
    "side", "ingestion_us", "vendor_data", "source_sequence", "platform_sequence", "asset_class",
    "trade_conditions",
)


class Declined(Exception):
    """Not one of the common forms: the Python plan decides."""


cdef int decline() except -1:
    PyErr_SetNone(Declined)
    return -1


# -- the output buffer -----------------------------------------------------------------------------

cdef struct Out:
    char *data
    Py_ssize_t size
    Py_ssize_t capacity
    char *heap


cdef int grow(Out *out, Py_ssize_t more) except -1:
    cdef Py_ssize_t capacity = (out.size + more) * 2
    cdef char *heap
    if out.heap == NULL:
        heap = <char *> PyMem_Malloc(capacity)
        if heap == NULL:
            raise MemoryError()
        memcpy(heap, out.data, out.size)
    else:
        heap = <char *> PyMem_Realloc(out.heap, capacity)
        if heap == NULL:
            raise MemoryError()
    out.heap = heap
    out.data = heap
    out.capacity = capacity
    return 0


cdef inline int reserve(Out *out, Py_ssize_t more) except -1:
    if out.size + more > out.capacity:
        return grow(out, more)
    return 0


cdef inline char *write_varint(char *at, int64_t value) noexcept:
    cdef uint64_t rest = (<uint64_t> value << 1) ^ <uint64_t> (value >> 63)
    while rest > 0x7F:
        at[0] = <char> (rest & 0x7F | 0x80)
        at += 1
        rest >>= 7
    at[0] = <char> rest
    return at + 1


cdef inline int put_long(Out *out, int64_t value) except -1:
    reserve(out, 10)
    out.size = write_varint(out.data + out.size, value) - out.data
    return 0


cdef inline int put_span(Out *out, const char *data, Py_ssize_t size) except -1:
    cdef char *at
    reserve(out, size + 10)
    at = write_varint(out.data + out.size, size)
    memcpy(at, data, size)
    out.size = at + size - out.data
    return 0


cdef inline int put_text(Out *out, object value) except -1:
    cdef Py_ssize_t size
    cdef const char *data
    if not PyUnicode_CheckExact(value):
        decline()
    if PyUnicode_IS_COMPACT_ASCII(value):
        return put_span(out, <const char *> PyUnicode_DATA(value), PyUnicode_GET_LENGTH(value))
    data = PyUnicode_AsUTF8AndSize(value, &size)
    return put_span(out, data, size)


cdef inline int put_units(Out *out, int64_t units) except -1:
    """Write the shortest two's complement, big-endian, behind its length."""
    cdef uint64_t magnitude = <uint64_t> (units if units >= 0 else ~units)
    cdef int size = bit_length(magnitude) // 8 + 1
    cdef uint64_t swapped = swap_bytes(<uint64_t> units << (64 - 8 * size))
    reserve(out, 9)
    out.data[out.size] = <char> (2 * size)
    memcpy(out.data + out.size + 1, &swapped, 8)
    out.size += 1 + size
    return 0


# -- texts and numbers -----------------------------------------------------------------------------

cdef inline object make_text(const char *data, Py_ssize_t size):
    cdef object text
    if size == 0 or not is_ascii(data, size):
        return PyUnicode_DecodeUTF8(data, size, NULL)
    text = PyUnicode_New(size, 127)
    memcpy(PyUnicode_DATA(text), data, size)
    return text


cdef inline bint parse_decimal(
    const char *text, Py_ssize_t size, int scale, int64_t limit, int64_t *units
) noexcept:
    """Read plain decimal text of at most 18 significant digits; False for any other form."""
    cdef Py_ssize_t pos = 0
    cdef int64_t number = 0
    cdef int digits = 0
    cdef int fraction = -1
    cdef Py_ssize_t end = size
    cdef bint negative = False
    cdef char letter
    if size == 0 or size > 40:
        return False
    if text[0] == c'-':
        negative = True
        pos = 1
    if pos >= size or text[pos] == c'.':
        return False
    while pos < end:
        letter = text[pos]
        if c'0' <= letter <= c'9':
            if fraction == scale:
                if letter != c'0':
                    return False
            else:
                if number or letter != c'0':
                    digits += 1
                    if digits > NATIVE_DIGITS:
                        return False
                number = number * 10 + (letter - c'0')
                if fraction >= 0:
                    fraction += 1
        elif letter == c'.' and fraction < 0:
            fraction = 0
        else:
            return False
        pos += 1
    if fraction < 0:
        fraction = 0
    # Checked before it is scaled: a product that wraps would pass any check after it.
    if number > limit // TEN_TO[scale - fraction]:
        return False
    number *= TEN_TO[scale - fraction]
    units[0] = -number if negative else number
    return True


cdef inline object format_decimal(int64_t units, int scale):
    cdef char[24] text
    cdef int end = 24
    cdef int place = 0
    cdef uint64_t rest = <uint64_t> units if units >= 0 else <uint64_t> 0 - <uint64_t> units
    while rest or place <= scale:
        if place == scale and scale:
            end -= 1
            text[end] = c'.'
        end -= 1
        text[end] = <char> (c'0' + rest % 10)
        rest //= 10
        place += 1
    if units < 0:
        end -= 1
        text[end] = c'-'
    return make_text(text + end, 24 - end)


cdef inline object format_integer(object number):
    cdef int overflow = 0
    cdef int64_t value
    if PyLong_CheckExact(number):
        value = PyLong_AsLongLongAndOverflow(number, &overflow)
        if not overflow:
            return format_decimal(value, 0)
    return str(number)


cdef object _parse_any_units = None


cpdef object parse_units(object field, object text, int scale=8, int precision=18):
    """Turn decimal text into an integer of 10^-scale, exact or a `FieldError`; see `units`."""
    cdef Py_ssize_t size
    cdef int64_t units
    cdef const char *data
    if (
        0 <= scale <= precision <= NATIVE_DIGITS
        and PyUnicode_CheckExact(text)
        and PyUnicode_IS_COMPACT_ASCII(text)
    ):
        data = PyUnicode_AsUTF8AndSize(text, &size)
        if parse_decimal(data, size, scale, TEN_TO[precision] - 1, &units):
            return PyLong_FromLongLong(units)
    return _parse_any_units(field, text, scale, precision)


def bind_parser(reference):
    """Return `parse_units`, with `reference` to decide about what is declined here."""
    global _parse_any_units
    _parse_any_units = reference
    return parse_units


cdef inline bint is_uuid(const char *text, Py_ssize_t size) noexcept:
    cdef int place, digits = 0
    if size != 36:
        return False
    for place in range(36):
        digits += IS_HEX[<unsigned char> text[place]]
    return (
        digits == 32
        and text[8] == c'-' and text[13] == c'-' and text[18] == c'-' and text[23] == c'-'
    )


# -- UUIDv5 ----------------------------------------------------------------------------------------

cdef extern from *:
    """
    /* One block of SHA-1 (FIPS 180-4, section 6.1.3: a schedule of 16 words). The five variables
       change places by name instead of by copy. */
    #define K2_ROTATE(x, n) (((x) << (n)) | ((x) >> (32 - (n))))
    #define K2_WORD(t) (w[(t) & 15] = K2_ROTATE( \
        w[((t) + 13) & 15] ^ w[((t) + 8) & 15] ^ w[((t) + 2) & 15] ^ w[(t) & 15], 1))
    #define K2_STEP(a, b, c, d, e, mix, constant, word) \
        e += K2_ROTATE(a, 5) + (mix) + constant + (word); b = K2_ROTATE(b, 30)
    #define K2_CHOOSE(b, c, d) ((d) ^ ((b) & ((c) ^ (d))))
    #define K2_PARITY(b, c, d) ((b) ^ (c) ^ (d))
    #define K2_MAJORITY(b, c, d) (((b) & (c)) | ((d) & ((b) | (c))))
    #define K2_FIVE(mix, constant, word, t) \
        K2_STEP(a, b, c, d, e, mix(b, c, d), constant, word(t)); \
        K2_STEP(e, a, b, c, d, mix(a, b, c), constant, word(t + 1)); \
        K2_STEP(d, e, a, b, c, mix(e, a, b), constant, word(t + 2)); \
        K2_STEP(c, d, e, a, b, mix(d, e, a), constant, word(t + 3)); \
        K2_STEP(b, c, d, e, a, mix(c, d, e), constant, word(t + 4));
    #define K2_FIRST(t) w[t]
    #define K2_MIXED(t) ((t) < 16 ? w[(t) & 15] : K2_WORD(t))

    static void k2_sha1_block(uint32_t *state, const uint8_t *block) {
        uint32_t w[16];
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
        for (int t = 0; t < 16; t++)
            w[t] = (uint32_t) block[4 * t] << 24 | (uint32_t) block[4 * t + 1] << 16
                 | (uint32_t) block[4 * t + 2] << 8 | block[4 * t + 3];
        K2_FIVE(K2_CHOOSE, 0x5A827999u, K2_FIRST, 0)
        K2_FIVE(K2_CHOOSE, 0x5A827999u, K2_FIRST, 5)
        K2_FIVE(K2_CHOOSE, 0x5A827999u, K2_FIRST, 10)
        K2_FIVE(K2_CHOOSE, 0x5A827999u, K2_MIXED, 15)
        K2_FIVE(K2_PARITY, 0x6ED9EBA1u, K2_WORD, 20)
        K2_FIVE(K2_PARITY, 0x6ED9EBA1u, K2_WORD, 25)
        K2_FIVE(K2_PARITY, 0x6ED9EBA1u, K2_WORD, 30)
        K2_FIVE(K2_PARITY, 0x6ED9EBA1u, K2_WORD, 35)
        K2_FIVE(K2_MAJORITY, 0x8F1BBCDCu, K2_WORD, 40)
        K2_FIVE(K2_MAJORITY, 0x8F1BBCDCu, K2_WORD, 45)
        K2_FIVE(K2_MAJORITY, 0x8F1BBCDCu, K2_WORD, 50)
        K2_FIVE(K2_MAJORITY, 0x8F1BBCDCu, K2_WORD, 55)
        K2_FIVE(K2_PARITY, 0xCA62C1D6u, K2_WORD, 60)
        K2_FIVE(K2_PARITY, 0xCA62C1D6u, K2_WORD, 65)
        K2_FIVE(K2_PARITY, 0xCA62C1D6u, K2_WORD, 70)
        K2_FIVE(K2_PARITY, 0xCA62C1D6u, K2_WORD, 75)
        state[0] += a; state[1] += b; state[2] += c; state[3] += d; state[4] += e;
    }
    """
    void sha1_block "k2_sha1_block"(uint32_t *state, const uint8_t *block) noexcept


cdef const char *HEX = b"0123456789abcdef"


cdef object uuid5_text(uint8_t *message, Py_ssize_t size):
    """UUIDv5 of a message that starts with its namespace; there is room for the padding."""
    cdef uint32_t[5] state
    cdef uint8_t[16] digest
    cdef char[36] text
    cdef Py_ssize_t blocks = (size + 8) // 64 + 1
    cdef Py_ssize_t pos
    cdef int place, at = 0
    state[0] = 0x67452301
    state[1] = 0xEFCDAB89u
    state[2] = 0x98BADCFEu
    state[3] = 0x10325476
    state[4] = 0xC3D2E1F0u
    message[size] = 0x80
    for pos in range(size + 1, blocks * 64 - 2):
        message[pos] = 0
    message[blocks * 64 - 2] = <uint8_t> ((size * 8) >> 8)
    message[blocks * 64 - 1] = <uint8_t> ((size * 8) & 0xFF)
    for pos in range(blocks):
        sha1_block(state, message + pos * 64)
    for place in range(16):
        digest[place] = <uint8_t> (state[place // 4] >> (24 - 8 * (place % 4)))
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    for place in range(16):
        if place == 4 or place == 6 or place == 8 or place == 10:
            text[at] = c'-'
            at += 1
        text[at] = HEX[digest[place] >> 4]
        text[at + 1] = HEX[digest[place] & 0xF]
        at += 2
    return make_text(text, 36)


cdef class _Attributes:
    """The attributes of one type of object; those that are plain slots are read without a lookup."""

    cdef tuple names
    cdef object owner
    cdef Py_ssize_t[MAX_ATTRIBUTES] offsets

    def __init__(self, names, owner):
        if len(names) > MAX_ATTRIBUTES:
            raise ValueError(f"more than {MAX_ATTRIBUTES} attributes")
        self.names = tuple([intern(name) for name in names])
        self.owner = owner
        for place, name in enumerate(self.names):
            self.offsets[place] = slot_offset(getattr(owner, name, None), owner)

    cdef bint are_slots(self):
        cdef Py_ssize_t place
        for place in range(PyTuple_GET_SIZE(self.names)):
            if self.offsets[place] <= 0:
                return False
        return True

    cdef inline object read(self, object record, Py_ssize_t place):
        cdef Py_ssize_t offset = self.offsets[place]
        cdef PyObject *found
        if offset > 0:
            found = (<PyObject **> (<char *> <PyObject *> record + offset))[0]
            if found != NULL:
                return <object> found
        return PyObject_GetAttr(record, <object> PyTuple_GET_ITEM(self.names, place))


cdef inline void set_slot(object made, Py_ssize_t offset, object value) noexcept:
    """Fill a slot of a new object, which is empty."""
    Py_INCREF(value)
    (<PyObject **> (<char *> <PyObject *> made + offset))[0] = <PyObject *> value


cdef Py_ssize_t slot_offset(object descriptor, object owner):
    """Return where in an object a slot descriptor reads, or 0 for any other attribute."""
    cdef PyMemberDef *member
    if type(descriptor) is not _SlotDescriptor or descriptor.__objclass__ is not owner:
        return 0
    member = (<PyMemberDescrObject *> descriptor).d_member
    return member.offset if member.type == T_OBJECT_EX else 0


cdef enum:
    NAME_BYTES = 256


cdef class MessageIds:
    """UUIDv5 texts of `EXCHANGE|pair|trade id` in one namespace."""

    cdef bytes namespace
    cdef object reference
    cdef _Attributes attributes

    def __init__(self, reference):
        self.namespace = reference.namespace
        self.reference = reference

    cpdef object derive(self, object exchange, object pair, object trade_id):
        """Return the UUIDv5 text of a trade, computed when needed and not before."""
        cdef uint8_t[NAME_BYTES + 192] message
        cdef Py_ssize_t size = 16
        cdef Py_ssize_t length
        cdef const char *data
        cdef int part
        cdef object text
        memcpy(message, PyBytes_AS_STRING(self.namespace), 16)
        for part in range(3):
            text = exchange if part == 0 else pair if part == 1 else trade_id
            if not PyUnicode_CheckExact(text):
                return self.reference.derive(exchange, pair, trade_id)
            data = PyUnicode_AsUTF8AndSize(text, &length)
            if size + length + 1 > NAME_BYTES:
                return self.reference.derive(exchange, pair, trade_id)
            if part:
                message[size] = c'|'
                size += 1
            memcpy(message + size, data, length)
            size += length
        return uuid5_text(message, size)

    def of_trade(self, trade):
        """Return the message id of an object with exchange, vendor_data and trade_id."""
        cdef _Attributes attributes = self.attributes
        if attributes is None or attributes.owner is not type(trade):
            attributes = _Attributes(("exchange", "vendor_data", "trade_id"), type(trade))
            self.attributes = attributes
        return self.derive(
            attributes.read(trade, 0), attributes.read(trade, 1)["pair"], attributes.read(trade, 2)
        )


cdef class TradeFactory:
    """`trade_factory.PythonTradeFactory` in C."""

    cdef object reference
    cdef object trade_type
    cdef str exchange
    cdef str symbol
    cdef str currency
    cdef str asset_class
    cdef tuple conditions
    cdef _Attributes slots
    cdef bint has_slots
    cdef int64_t made

    def __init__(self, reference):
        self.reference = reference
        self.trade_type = reference.trade_type
        self.exchange = reference.exchange
        self.symbol = reference.symbol
        self.currency = reference.currency
        self.asset_class = "crypto"
        self.conditions = ()
        names = reference.trade_type.__struct_fields__
        self.slots = _Attributes(names, reference.trade_type)
        # Filled slot by slot: a constructor with 12 keywords takes three times as long.
        self.has_slots = names == TRADE_SLOTS and self.slots.are_slots()

    def make(
        self, trade_id, price, quantity, side, timestamp_us, ingestion_us, vendor_data
    ):
        """Return the trade; raise `FieldError` for digits that contract V2 cannot hold."""
        cdef int overflow = 0
        cdef int64_t moment = 0
        cdef bint usual = self.has_slots and PyLong_CheckExact(trade_id)
        if usual and PyLong_CheckExact(timestamp_us):
            moment = PyLong_AsLongLongAndOverflow(timestamp_us, &overflow)
            if not overflow:
                PyLong_AsLongLongAndOverflow(trade_id, &overflow)
            usual = not overflow and FIRST_MICROS <= moment <= LAST_MICROS
        else:
            usual = False
        if not usual:
            return self.reference.make(
                trade_id, price, quantity, side, timestamp_us, ingestion_us, vendor_data
            )
        cdef object price_units = parse_units("price", price)
        cdef object quantity_units = parse_units("quantity", quantity)
        cdef object trade_id_text = format_integer(trade_id)
        cdef object made = (<PyTypeObject *> self.trade_type).tp_alloc(self.trade_type, 0)
        cdef Py_ssize_t *offsets = self.slots.offsets
        self.made += 1
        set_slot(made, offsets[0], trade_id_text)
        set_slot(made, offsets[1], self.symbol)
        set_slot(made, offsets[2], self.exchange)
        set_slot(made, offsets[3], timestamp_us)
        set_slot(made, offsets[4], price_units)
        set_slot(made, offsets[5], quantity_units)
        set_slot(made, offsets[6], self.currency)
        set_slot(made, offsets[7], side)
        set_slot(made, offsets[8], ingestion_us)
        set_slot(made, offsets[9], vendor_data)
        set_slot(made, offsets[10], trade_id)
        set_slot(made, offsets[11], PyLong_FromLongLong(self.made))
        set_slot(made, offsets[12], self.asset_class)
        set_slot(made, offsets[13], self.conditions)
        return made


# -- the plan --------------------------------------------------------------------------------------

cdef class _Node:
    cdef int kind
    cdef int null_index
    cdef tuple names
    cdef tuple children
    cdef tuple defaults
    cdef dict symbol_index
    cdef int precision
    cdef int scale
    cdef int64_t limit
    cdef bint units
    cdef str last_text
    cdef dict empty_record

    def __init__(self, plan, bint units):
        self.kind = plan.kind
        self.null_index = plan.null_index
        # Interned, as the keys of dict literals are.
        self.names = tuple([intern(name) for name in plan.names])
        self.children = tuple([_Node(child, units) for child in plan.children])
        self.defaults = plan.defaults
        self.symbol_index = {name: number for number, name in enumerate(plan.names)}
        self.precision = plan.precision
        self.scale = plan.scale
        self.limit = 10**plan.precision - 1 if plan.precision <= NATIVE_DIGITS else 0
        self.units = units
        self.last_text = ""
        self.empty_record = dict.fromkeys(self.names)


cdef int write_value(_Node node, object value, Out *out) except -1:
    cdef int kind = node.kind
    cdef int64_t number
    cdef int overflow = 0
    cdef Py_ssize_t size
    cdef const char *data
    cdef double real
    cdef PyObject *found
    cdef Py_ssize_t place
    if node.null_index >= 0:
        if value is None:
            return put_long(out, node.null_index)
        put_long(out, 1 - node.null_index)
    if kind == STRING:
        return put_text(out, value)
    if kind == LONG or kind == INT:
        if not PyLong_CheckExact(value):
            decline()
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow or (kind == INT and not -2147483648 <= number <= 2147483647):
            decline()
        return put_long(out, number)
    if kind == DECIMAL:
        return write_decimal(node, value, out)
    if kind == TIMESTAMP_MICROS or kind == TIMESTAMP_MILLIS:
        return write_timestamp(node, value, out)
    if kind == ENUM:
        for place in range(PyTuple_GET_SIZE(node.names)):
            if <PyObject *> PyTuple_GET_ITEM(node.names, place) == <PyObject *> value:
                return put_long(out, place)
        found = PyDict_GetItemWithError(node.symbol_index, value)
        if found == NULL or not PyUnicode_CheckExact(value):
            decline()
        return put_long(out, <object> found)
    if kind == UUID_TEXT:
        if not PyUnicode_CheckExact(value):
            if type(value) is not _UUID:
                decline()
            value = str(value)
        data = PyUnicode_AsUTF8AndSize(value, &size)
        if not is_uuid(data, size):
            decline()
        return put_span(out, data, size)
    if kind == ARRAY:
        return write_array(node, value, out)
    if kind == MAP:
        return write_map(node, value, out)
    if kind == RECORD:
        return write_record(node, value, out)
    if kind == BOOLEAN:
        if value is not True and value is not False:
            decline()
        reserve(out, 1)
        out.data[out.size] = <char> (value is True)
        out.size += 1
        return 0
    if kind == DOUBLE:
        if not PyFloat_CheckExact(value):
            decline()
        real = PyFloat_AS_DOUBLE(value)
        reserve(out, 8)
        # Avro is little-endian; so is every machine that wheels are built for (setup.py checks).
        memcpy(out.data + out.size, &real, 8)
        out.size += 8
        return 0
    if kind == BYTES:
        if not PyBytes_CheckExact(value):
            decline()
        return put_span(out, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    return decline()


cdef int write_decimal(_Node node, object value, Out *out) except -1:
    cdef int64_t number
    cdef int overflow = 0
    cdef Py_ssize_t size
    cdef const char *data
    if node.precision > NATIVE_DIGITS:
        return decline()
    if PyLong_CheckExact(value):
        if not node.units:
            decline()
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow or not -node.limit <= number <= node.limit:
            decline()
        return put_units(out, number)
    if not PyUnicode_CheckExact(value):
        if type(value) is not _Decimal:
            decline()
        value = str(value)
    if not PyUnicode_IS_COMPACT_ASCII(value):
        decline()
    data = PyUnicode_AsUTF8AndSize(value, &size)
    if not parse_decimal(data, size, node.scale, node.limit, &number):
        decline()
    return put_units(out, number)


cdef int write_timestamp(_Node node, object value, Out *out) except -1:
    cdef int64_t number
    cdef int overflow = 0
    cdef bint micros = node.kind == TIMESTAMP_MICROS
    if PyLong_CheckExact(value):
        if not node.units:
            decline()
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow or not (
            FIRST_MICROS <= number <= LAST_MICROS if micros else FIRST_MILLIS <= number <= LAST_MILLIS
        ):
            decline()
        return put_long(out, number)
    if not PyDateTime_CheckExact(value) or datetime_tzinfo(value) is not _UTC:
        decline()
    number = 86_400_000_000 * days_from_civil(
        datetime_year(value), datetime_month(value), datetime_day(value)
    ) + 1_000_000 * <int64_t> (
        datetime_hour(value) * 3600 + datetime_minute(value) * 60 + datetime_second(value)
    ) + datetime_microsecond(value)
    if not micros:
        if datetime_microsecond(value) % 1000:
            decline()
        # Exact: what is below the millisecond is 0, on both sides of 1970.
        number //= 1000
    return put_long(out, number)


cdef inline int64_t days_from_civil(int64_t year, int month, int day) noexcept:
    """Days since 1970-01-01, proleptic Gregorian (H. Hinnant, chrono-compatible date algorithms)."""
    cdef int64_t era, of_era, of_year
    if month <= 2:
        year -= 1
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


cdef int write_array(_Node node, object value, Out *out) except -1:
    cdef _Node item = <_Node> PyTuple_GET_ITEM(node.children, 0)
    cdef Py_ssize_t size, place
    cdef object held
    if PyTuple_CheckExact(value):
        size = PyTuple_GET_SIZE(value)
        if size:
            put_long(out, size)
            for place in range(size):
                write_value(item, <object> PyTuple_GET_ITEM(value, place), out)
    elif PyList_CheckExact(value):
        size = PyList_GET_SIZE(value)
        if size:
            put_long(out, size)
            for place in range(size):
                if place >= PyList_GET_SIZE(value):
                    decline()
                held = <object> PyList_GET_ITEM(value, place)
                write_value(item, held, out)
    else:
        decline()
    return put_long(out, 0)


cdef int write_map(_Node node, object value, Out *out) except -1:
    cdef _Node item = <_Node> PyTuple_GET_ITEM(node.children, 0)
    cdef Py_ssize_t place = 0
    cdef Py_ssize_t left
    cdef PyObject *key
    cdef PyObject *entry
    cdef object held
    if not PyDict_CheckExact(value):
        decline()
    left = PyDict_Size(value)
    if left:
        put_long(out, left)
        while PyDict_Next(value, &place, &key, &entry):
            # Held: another thread may change the dict while a value is turned into text.
            held = <object> entry
            put_text(out, <object> key)
            write_value(item, held, out)
            left -= 1
        if left:
            decline()
    return put_long(out, 0)


cdef int write_record(_Node node, object value, Out *out) except -1:
    cdef Py_ssize_t place, found_fields = 0
    cdef Py_ssize_t size = PyTuple_GET_SIZE(node.names)
    cdef Py_ssize_t next_entry = 0
    cdef PyObject *key
    cdef PyObject *found
    cdef PyObject *name
    cdef object held
    cdef object default
    cdef bint in_order = True
    if not PyDict_CheckExact(value):
        decline()
    for place in range(size):
        name = <PyObject *> PyTuple_GET_ITEM(node.names, place)
        # Most records come in the schema's order, their keys the very objects of the schema.
        if not (in_order and PyDict_Next(value, &next_entry, &key, &found) and key == name):
            in_order = False
            found = PyDict_GetItemWithError(value, <object> name)
        if found != NULL:
            found_fields += 1
            held = <object> found
            write_value(<_Node> PyTuple_GET_ITEM(node.children, place), held, out)
        else:
            default = <object> PyTuple_GET_ITEM(node.defaults, place)
            if default is None:
                decline()
            reserve(out, PyBytes_GET_SIZE(default))
            memcpy(out.data + out.size, PyBytes_AS_STRING(default), PyBytes_GET_SIZE(default))
            out.size += PyBytes_GET_SIZE(default)
    if found_fields != PyDict_Size(value):
        decline()
    return 0


cdef int write_row(_Node node, tuple row, Out *out) except -1:
    cdef Py_ssize_t place
    cdef Py_ssize_t size = PyTuple_GET_SIZE(node.names)
    if PyTuple_GET_SIZE(row) != size:
        decline()
    for place in range(size):
        write_value(
            <_Node> PyTuple_GET_ITEM(node.children, place), <object> PyTuple_GET_ITEM(row, place), out
        )
    return 0


cdef Py_ssize_t _UUID_INT_OFFSET = slot_offset(getattr(UUID, "int", None), UUID)
cdef Py_ssize_t _UUID_SAFETY_OFFSET = slot_offset(getattr(UUID, "is_safe", None), UUID)


cdef int write_attributes(_Node node, object value, _Attributes attributes, Out *out) except -1:
    cdef Py_ssize_t place
    for place in range(PyTuple_GET_SIZE(node.names)):
        write_value(
            <_Node> PyTuple_GET_ITEM(node.children, place), attributes.read(value, place), out
        )
    return 0


# -- reading ---------------------------------------------------------------------------------------

cdef struct In:
    const uint8_t *data
    Py_ssize_t size
    Py_ssize_t pos


cdef inline int64_t take_long(In *source) except? -1:
    cdef uint64_t number = 0
    cdef uint8_t byte
    cdef int shift = 0
    while True:
        if source.pos >= source.size:
            decline()
        byte = source.data[source.pos]
        source.pos += 1
        if shift == 63 and byte > 1:
            decline()
        number |= <uint64_t> (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return <int64_t> (number >> 1) ^ -<int64_t> (number & 1)


cdef inline Py_ssize_t take_span(In *source) except -1:
    """Return a span's size and stand at its first byte."""
    cdef int64_t size = take_long(source)
    if size < 0 or size > source.size - source.pos:
        decline()
    return size


cdef inline object take_text(_Node node, In *source):
    """Read a string; one that equals the last of its field is the same object."""
    cdef Py_ssize_t size = take_span(source)
    cdef const char *data = <const char *> source.data + source.pos
    cdef object text = node.last_text
    source.pos += size
    if (
        PyUnicode_GET_LENGTH(text) == size
        and PyUnicode_IS_COMPACT_ASCII(text)
        and memcmp(PyUnicode_DATA(text), data, size) == 0
    ):
        return text
    text = make_text(data, size)
    node.last_text = <str> text
    return text


cdef object read_value(_Node node, In *source):
    cdef int kind = node.kind
    cdef int64_t number
    cdef Py_ssize_t size
    cdef double real
    if node.null_index >= 0:
        number = take_long(source)
        if number == node.null_index:
            return None
        if number != 1 - node.null_index:
            decline()
    if kind == STRING:
        return take_text(node, source)
    if kind == LONG:
        return PyLong_FromLongLong(take_long(source))
    if kind == DECIMAL:
        return read_decimal(node, source)
    if kind == TIMESTAMP_MICROS or kind == TIMESTAMP_MILLIS:
        return read_timestamp(node, take_long(source))
    if kind == ENUM:
        number = take_long(source)
        if not 0 <= number < PyTuple_GET_SIZE(node.names):
            decline()
        return <object> PyTuple_GET_ITEM(node.names, number)
    if kind == UUID_TEXT:
        size = take_span(source)
        if not is_uuid(<const char *> source.data + source.pos, size):
            decline()
        source.pos += size
        if node.units:
            return make_text(<const char *> source.data + source.pos - 36, 36)
        return make_uuid(<const char *> source.data + source.pos - 36)
    if kind == ARRAY:
        return read_array(node, source)
    if kind == MAP:
        return read_map(node, source)
    if kind == RECORD:
        return read_record(node, source)
    if kind == INT:
        number = take_long(source)
        if not -2147483648 <= number <= 2147483647:
            decline()
        return PyLong_FromLongLong(number)
    if kind == BOOLEAN:
        if source.pos >= source.size or source.data[source.pos] > 1:
            decline()
        source.pos += 1
        return source.data[source.pos - 1] == 1
    if kind == DOUBLE:
        if source.size - source.pos < 8:
            decline()
        memcpy(&real, source.data + source.pos, 8)
        source.pos += 8
        return real
    if kind == BYTES:
        size = take_span(source)
        source.pos += size
        return PyBytes_FromStringAndSize(<const char *> source.data + source.pos - size, size)
    decline()


cdef object make_uuid(const char *text):
    """Build a UUID as its own constructor does, without that one's parsing."""
    cdef char[33] digits
    memcpy(digits, text, 8)
    memcpy(digits + 8, text + 9, 4)
    memcpy(digits + 12, text + 14, 4)
    memcpy(digits + 16, text + 19, 4)
    memcpy(digits + 20, text + 24, 12)
    digits[32] = 0
    cdef object made = (<PyTypeObject *> _UUID).tp_new(_UUID, (), NULL)
    if _UUID_INT_OFFSET and _UUID_SAFETY_OFFSET:
        set_slot(made, _UUID_INT_OFFSET, PyLong_FromString(digits, NULL, 16))
        set_slot(made, _UUID_SAFETY_OFFSET, _UNKNOWN_SAFETY)
        return made
    return _UUID(digits[:32].decode())


cdef object read_decimal(_Node node, In *source):
    cdef Py_ssize_t size = take_span(source)
    cdef const uint8_t *data = source.data + source.pos
    cdef uint64_t bits
    cdef int64_t units
    cdef Py_ssize_t place
    if not 1 <= size <= 8 or node.precision > NATIVE_DIGITS:
        decline()
    bits = <uint64_t> -1 if data[0] & 0x80 else 0
    for place in range(size):
        bits = (bits << 8) | data[place]
    units = <int64_t> bits
    if not -node.limit <= units <= node.limit:
        decline()
    source.pos += size
    if node.units:
        return PyLong_FromLongLong(units)
    return _Decimal(format_decimal(units, node.scale))


cdef object read_timestamp(_Node node, int64_t number):
    cdef int64_t days, of_day, seconds, era, of_era, year_of_era, day_of_year, month
    if node.kind == TIMESTAMP_MICROS:
        if not FIRST_MICROS <= number <= LAST_MICROS:
            decline()
        if node.units:
            return PyLong_FromLongLong(number)
    else:
        if not FIRST_MILLIS <= number <= LAST_MILLIS:
            decline()
        if node.units:
            return PyLong_FromLongLong(number)
        number *= 1000
    # Shifted to a day count that is never negative: C's division rounds towards zero.
    number -= FIRST_MICROS
    days = number // 86_400_000_000 + 306
    of_day = number % 86_400_000_000
    seconds = of_day // 1_000_000
    era = days // 146097
    of_era = days - era * 146097
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    day_of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    return datetime_new(
        year_of_era + era * 400 + (1 if month >= 10 else 0),
        month + 3 if month < 10 else month - 9,
        day_of_year - (153 * month + 2) // 5 + 1,
        seconds // 3600,
        seconds // 60 % 60,
        seconds % 60,
        of_day % 1_000_000,
        _UTC,
    )


cdef inline int64_t take_count(In *source) except -1:
    """Read a block's item count; a negative one is followed by the block's size, which we skip."""
    cdef int64_t count = take_long(source)
    if count < 0:
        if count < -source.size:
            decline()
        count = -count
        take_long(source)
    # Every item takes a byte at least: more items than bytes is a lie, found before it costs.
    if count > source.size - source.pos:
        decline()
    return count


cdef object read_array(_Node node, In *source):
    cdef _Node item = <_Node> PyTuple_GET_ITEM(node.children, 0)
    cdef list items = []
    cdef int64_t count = take_count(source)
    while count:
        while count:
            items.append(read_value(item, source))
            count -= 1
        count = take_count(source)
    return items


cdef object read_map(_Node node, In *source):
    cdef _Node item = <_Node> PyTuple_GET_ITEM(node.children, 0)
    cdef dict items = {}
    cdef int64_t count = take_count(source)
    cdef object key
    while count:
        while count:
            # Keys are remembered in the map's own node, values in the item's.
            key = take_text(node, source)
            PyDict_SetItem(items, key, read_value(item, source))
            count -= 1
        count = take_count(source)
    return items


cdef object read_record(_Node node, In *source):
    cdef Py_ssize_t place
    cdef Py_ssize_t size = PyTuple_GET_SIZE(node.names)
    # A copy has room for every field from the start.
    cdef dict record = PyDict_Copy(node.empty_record)
    for place in range(size):
        PyDict_SetItem(
            record,
            <object> PyTuple_GET_ITEM(node.names, place),
            read_value(<_Node> PyTuple_GET_ITEM(node.children, place), source),
        )
    return record


cdef object read_row(_Node node, In *source):
    cdef Py_ssize_t place
    cdef Py_ssize_t size = PyTuple_GET_SIZE(node.names)
    cdef tuple row = PyTuple_New(size)
    cdef object value
    for place in range(size):
        value = read_value(<_Node> PyTuple_GET_ITEM(node.children, place), source)
        Py_INCREF(value)
        PyTuple_SET_ITEM(row, place, value)
    return row


# -- the engine ------------------------------------------------------------------------------------

cdef class NativeEngine:
    """`PythonEngine` in C; takes one, does what it does, and asks it whenever it declines."""

    cdef readonly object reference
    cdef readonly object plan
    cdef readonly bint units
    cdef _Node root
    cdef bytes prefix
    cdef tuple attribute_names
    cdef _Attributes attributes
    name = "cython"

    def __init__(self, reference):
        self.reference = reference
        self.plan = reference.plan
        self.units = reference.units
        self.root = _Node(reference.plan, reference.units)
        self.prefix = reference.prefix
        names = reference.attributes
        self.attribute_names = None if names is None else tuple(names)

    def with_prefix(self, bytes prefix):
        """Return the same engine with another prefix."""
        return NativeEngine(self.reference.with_prefix(prefix))

    cdef object _encode(self, object record):
        cdef char[STACK_BYTES] stack
        cdef Out out
        cdef _Attributes attributes
        cdef Py_ssize_t prefix_size = PyBytes_GET_SIZE(self.prefix)
        out.data = stack
        out.size = prefix_size
        out.capacity = STACK_BYTES
        out.heap = NULL
        if prefix_size:
            memcpy(stack, PyBytes_AS_STRING(self.prefix), prefix_size)
        try:
            if self.attribute_names is not None:
                # A local one: another thread may be encoding another type of object.
                attributes = self.attributes
                if attributes is None or attributes.owner is not type(record):
                    attributes = self.attributes = _Attributes(self.attribute_names, type(record))
                write_attributes(self.root, record, attributes, &out)
            elif PyTuple_CheckExact(record):
                write_row(self.root, <tuple> record, &out)
            else:
                write_record(self.root, record, &out)
            return PyBytes_FromStringAndSize(out.data, out.size)
        finally:
            if out.heap != NULL:
                PyMem_Free(out.heap)

    cdef object _decode(self, object data, bint as_row):
        cdef In source
        if not PyBytes_CheckExact(data):
            decline()
        source.data = <const uint8_t *> PyBytes_AS_STRING(data)
        source.size = PyBytes_GET_SIZE(data)
        source.pos = PyBytes_GET_SIZE(self.prefix)
        if source.pos and (
            source.size <= source.pos
            or memcmp(source.data, PyBytes_AS_STRING(self.prefix), source.pos) != 0
        ):
            decline()
        found = read_row(self.root, &source) if as_row else read_record(self.root, &source)
        if source.pos != source.size:
            decline()
        return found

    # The reference is asked outside of `except`: its errors are nobody's consequence.

    def encode(self, record):
        """Return prefix and body of a record, or raise `FieldError`."""
        try:
            return self._encode(record)
        except Exception:
            pass
        return self.reference.encode(record)

    def encode_many(self, records):
        """Return prefix and body of each record."""
        cdef list out = []
        for record in records:
            try:
                body = self._encode(record)
            except Exception:
                body = None
            out.append(self.reference.encode(record) if body is None else body)
        return out

    def decode(self, data):
        """Return the record behind the prefix, or raise `RecordDecodeError`."""
        try:
            return self._decode(data, False)
        except Exception:
            pass
        return self.reference.decode(data)

    def decode_many(self, bodies):
        """Return the record of each body."""
        cdef list out = []
        for body in bodies:
            try:
                record = self._decode(body, False)
            except Exception:
                record = None
            out.append(self.reference.decode(body) if record is None else record)
        return out

    def decode_row(self, data):
        """Return the values of the record behind the prefix, in the schema's order."""
        try:
            return self._decode(data, True)
        except Exception:
            pass
        return self.reference.decode_row(data)

    def decode_columns(self, bodies):
        """Return the values of many records, a list per field."""
        cdef Py_ssize_t place
        cdef Py_ssize_t size = PyTuple_GET_SIZE(self.root.names)
        cdef list columns = [[] for _ in range(size)]
        cdef tuple row
        for body in bodies:
            row = self.decode_row(body)
            for place in range(size):
                (<list> PyList_GET_ITEM(columns, place)).append(
                    <object> PyTuple_GET_ITEM(row, place)
                )
        return columns

    def decline_encode(self, record):
        """Encode without asking the reference: raises `Declined`, or whatever the record raised."""
        return self._encode(record)

    def decline_decode(self, data):
        """Decode without asking the reference: raises `Declined`."""
        return self._decode(data, False)
