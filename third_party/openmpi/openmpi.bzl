"""How a target that includes mpi.h is compiled: Debian keeps the header apart."""

# Not -I: the header is the system's, with the system's warnings. The C++
# bindings, which MPI 3 has not any more, stay out.
OPENMPI_COPTS = [
    "-isystem/usr/include/x86_64-linux-gnu/mpi",
    "-DOMPI_SKIP_MPICXX",
]
