def cupy():
    import cupy

    return cupy
