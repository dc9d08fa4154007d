"""Functions of whole matrices that a generated file has of its own.

In: the code of the file. Out: the functions that it calls: in float32 at least, whatever
the precision of the parameters.
"""

from .. import vocabulary

PRECISE = '''

def _precise(x: Tensor) -> Tensor:
    """The tensor in float32 at least."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
'''
FUNCTIONS = {
    "qr": '''

def _qr(x: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix of orthonormal columns and a triangular one, whose product is x."""
    q, r = torch.linalg.qr(_precise(x))
    return q.to(x.dtype), r.to(x.dtype)
''',
    "eigh": '''

def _eigh(x: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues of a symmetric matrix, the smallest first, and eigenvectors."""
    values, vectors = torch.linalg.eigh(_precise(x))
    return values.to(x.dtype), vectors.to(x.dtype)
''',
    "svd": '''

def _svd(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Singular values, the largest first, between their vectors: u @ diag(s) @ vh."""
    u, s, vh = torch.linalg.svd(_precise(x), full_matrices=False)
    return u.to(x.dtype), s.to(x.dtype), vh.to(x.dtype)
''',
    "inverse_root": '''

def _inverse_root(x: Tensor, k: float) -> Tensor:
    """x ** (-1 / k) for a symmetric matrix without negative eigenvalues.

    None counts as less than the machine epsilon of x times the largest: so much of x is
    rounding. Of zeros it is zeros.
    """
    values, vectors = torch.linalg.eigh(_precise(x))
    largest = values[..., -1:]
    values = values.maximum(largest * torch.finfo(x.dtype).eps)
    roots = torch.where(largest > 0, values ** (-1 / k), 0)
    return ((vectors * roots.unsqueeze(-2)) @ vectors.mT).to(x.dtype)
''',
}
assert FUNCTIONS.keys() == vocabulary.OF_MATRICES


def decompositions(code: str) -> str:
    """The functions of matrices that the code calls."""
    called = [name for name in FUNCTIONS if f"_{name}(" in code]
    return PRECISE * bool(called) + "".join(FUNCTIONS[name] for name in called)
