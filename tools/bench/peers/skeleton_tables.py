"""Joint tables of the students in plain Python (what student/model/skeleton_graph.c computes in C): for
`students_torch.py`."""

JOINTS = 25
EDGES = [
    (0, 1),
    (1, 20),
    (2, 20),
    (3, 2),
    (4, 20),
    (5, 4),
    (6, 5),
    (7, 6),
    (8, 20),
    (9, 8),
    (10, 9),
    (11, 10),
    (12, 0),
    (13, 12),
    (14, 13),
    (15, 14),
    (16, 0),
    (17, 16),
    (18, 17),
    (19, 18),
    (21, 22),
    (22, 7),
    (23, 24),
    (24, 11),
]
V1_EDGES = EDGES[:20] + [(7, 21), (7, 22), (11, 23), (11, 24)]  # hand tips hang on the hand
PARTS = [{0, 1, 2, 20}, {3}, {4, 5, 6, 7, 21, 22}, {8, 9, 10, 11, 23, 24}, {12, 13, 14, 15}, {16, 17, 18, 19}]
ARMS, LEGS, TORSO = [4, 5, 6, 7, 21, 22, 8, 9, 10, 11, 23, 24], list(range(12, 20)), [0, 1, 2, 3, 20]


def distances():
    """Up to two hops; 3: further."""
    d = [[0 if i == j else 3 for j in range(JOINTS)] for i in range(JOINTS)]
    for a, b in EDGES:
        d[a][b] = d[b][a] = 1
    ones = [[j for j in range(JOINTS) if d[i][j] == 1] for i in range(JOINTS)]
    for i in range(JOINTS):
        for j in ones[i]:
            for k in ones[j]:
                d[i][k] = min(d[i][k], 2)
    return d


def same_part(i, j):
    return any(i in part and j in part for part in PARTS)


def semantic():
    """Raw partitions (3,25,25): pairs within two hops in one part, in two parts and adjacent, in two parts and
    further."""
    out = [[[0.0] * JOINTS for _ in range(JOINTS)] for _ in range(3)]
    d = distances()
    for i in range(JOINTS):
        for j in range(JOINTS):
            if d[i][j] <= 2:
                out[0 if same_part(i, j) else 1 if d[i][j] == 1 else 2][i][j] = 1.0
    return out


def physical():
    """Bones of LAST v1 and self loops, normalised on both sides."""
    a = [[1.0 if i == j else 0.0 for j in range(JOINTS)] for i in range(JOINTS)]
    for i, j in V1_EDGES:
        a[i][j] = a[j][i] = 1.0
    s = [sum(row) ** -0.5 for row in a]
    return [[a[i][j] * s[i] * s[j] for j in range(JOINTS)] for i in range(JOINTS)]


def brasp(channels):
    """Which joint a channel's joint reads (channels, 25): rings of arms, legs and torso, then neighbours."""
    d, rows = distances(), []
    groups = [(0, channels // 4, ARMS), (channels // 4, channels // 2, LEGS), (channels // 2, 5 * channels // 8, TORSO)]
    for begin, end, ring in groups:
        for i in range(end - begin):
            row = list(range(JOINTS))
            for p, joint in enumerate(ring):
                row[joint] = ring[(p + i + 1) % len(ring)]
            rows.append(row)
    near = [[j for j in range(JOINTS) if d[v][j] <= 2] for v in range(JOINTS)]
    rows += [[near[v][i % len(near[v])] for v in range(JOINTS)] for i in range(channels - len(rows))]
    return rows


def sgp(channels):
    """The same form: neighbours in the part, then in the next part, by weight; the last third stays."""
    d, third = distances(), channels // 3
    degree = [sum(x <= 2 for x in row) for row in d]
    inside = [
        sorted((j for j in range(JOINTS) if j != v and d[v][j] <= 2 and same_part(v, j)), key=lambda j: degree[j])
        for v in range(JOINTS)
    ]
    across = [
        sorted((j for j in range(JOINTS) if d[v][j] == 1 and not same_part(v, j)), key=lambda j: degree[j])
        for v in range(JOINTS)
    ]
    rows = []
    for c in range(channels):
        lists = inside if c < third else across if c < 2 * third else [[]] * JOINTS
        rank = c if c < third else c - third
        rows.append([lists[v][rank % len(lists[v])] if lists[v] else v for v in range(JOINTS)])
    return rows
