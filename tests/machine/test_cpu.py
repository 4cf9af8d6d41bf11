"""CPU detection, on the vectors that users of the plugin know and on what the plugin ignored."""

import pytest

from sendnn_pipeline.machine.cpu import (
    CpuFacts,
    check_threads,
    computes_bfloat16,
    count_cpus,
    cpu_features,
    cpu_kind,
    cpu_name,
    encoder_threads,
    read_cpu_facts,
    threads_per_worker,
)

NOTHING = CpuFacts(None, None, None, None)


def write_v2(folder, text):
    (folder / "cpu.max").write_text(text)


def test_num_cpus_wins():
    count, reason = count_cpus(12, CpuFacts(2.0, 2, 2, 2))
    assert count == 12.0 and "SENDNN_INFERENCE_NUM_CPUS" in reason


@pytest.mark.parametrize(
    ("facts", "count", "word"),
    [
        (CpuFacts(2.0, 8, 8, 8), 2.0, "cgroup"),
        (CpuFacts(None, None, None, 8), 8.0, "logical"),
        (CpuFacts(None, None, 6, 12), 6.0, "physical"),
        (CpuFacts(None, 3, 6, 12), 3.0, "affinity"),
        (NOTHING, None, "no source"),
    ],
)
def test_order(facts, count, word):
    found, reason = count_cpus(0, facts)
    assert found == count and word in reason


def test_cgroup_v2(tmp_path):
    write_v2(tmp_path, "200000 100000")
    assert read_cpu_facts(tmp_path).cgroup_quota == 2.0
    write_v2(tmp_path, "max 100000")
    assert read_cpu_facts(tmp_path).cgroup_quota is None


def test_cgroup_v1(tmp_path):
    assert read_cpu_facts(tmp_path).cgroup_quota is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for quota, count in (("150000\n", 1.5), ("-1\n", None), ("nonsense", None)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
        assert read_cpu_facts(tmp_path).cgroup_quota == count


@pytest.mark.parametrize(
    ("cpus", "workers", "threads"), [(12, 4, 3), (10, 4, 3), (2.0, 1, 2), (2.5, 1, 3), (0.5, 4, 1)]
)
def test_threads_per_worker(cpus, workers, threads):
    assert threads_per_worker(cpus, workers) == threads


@pytest.mark.parametrize(
    ("num_cpus", "machine", "threads"),
    [
        (0, "x86_64", 20),  # physical ones
        (0, "ppc64le", 36),  # of 80 logical ones
        (80, "ppc64le", 36),
        (12, "ppc64le", 12),
        (80, "x86_64", 80),
    ],
)
def test_threads_of_a_vision_encoder_are_all_whatever_the_ranks(num_cpus, machine, threads):
    assert encoder_threads(num_cpus, CpuFacts(None, None, 20, 80), machine) == threads
    assert encoder_threads(0, CpuFacts(2.5, 80, 20, 80), machine) == 3
    assert encoder_threads(0, CpuFacts(None, None, None, None), machine) == 0


def test_unset_and_oversubscribed_threads_are_noted():
    names = ("OMP_NUM_THREADS", "DT_PARALLEL_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    assert check_threads(dict.fromkeys(names, "4"), 4) == []
    assert len(check_threads(dict.fromkeys(names, "5"), 4)) == 4
    assert [line.split()[0] for line in check_threads(dict.fromkeys(names[1:], "4"), 4)] == ["OMP_NUM_THREADS"]
    assert check_threads(dict.fromkeys(names, "many"), 4) == []


def test_bfloat16(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("flags : fpu avx2 avx512_bf16\n")
    assert computes_bfloat16(info, "x86_64")
    info.write_text("flags : fpu avx2 avx512f\n")
    assert not computes_bfloat16(info, "x86_64")
    info.write_text("Features : fp asimd bf16\n")
    assert computes_bfloat16(info, "aarch64")
    assert not computes_bfloat16(tmp_path / "missing", "x86_64")


def test_code_is_generated_for_the_machine_and_its_vector_extensions(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("flags : fpu sse4_2 avx2 fma avx512_bf16 rdseed\n")
    assert cpu_features(info, "x86_64") == "x86_64 avx2 avx512_bf16 fma"
    info.write_text("Features : fp asimd sve bf16\n")
    assert cpu_features(info, "aarch64") == "aarch64 asimd bf16 sve"
    assert cpu_features(tmp_path / "missing", "s390x") == "s390x"


def test_the_machine_s_name(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 7B13\n")
    assert cpu_name(info, "x86_64") == "AMD EPYC 7B13 (x86_64)"
    info.write_text("processor : 0\ncpu\t\t: POWER10 (architected), altivec supported\n")
    assert cpu_name(info, "ppc64le") == "POWER10 (architected), altivec supported (ppc64le)"
    info.write_text("processor\t: 0\nBogoMIPS\t: 50.00\n")
    assert cpu_name(info, "aarch64") == cpu_name(tmp_path / "missing", "aarch64") == "aarch64"


CORE = "vendor_id\t: AMD\ncpu family\t: 25\nmodel\t\t: {}\nmodel name\t: AMD EPYC\ncpu MHz\t\t: {}\nflags\t: avx2\n"


def test_a_kind_of_cpu_is_what_it_is_and_not_how_fast_it_runs_now_nor_how_many_there_are(tmp_path):
    info, other = tmp_path / "cpuinfo", tmp_path / "other"
    info.write_text(f"processor\t: 0\n{CORE.format(1, 2450.0)}\nprocessor\t: 1\n{CORE.format(1, 1900.0)}")
    other.write_text(f"processor\t: 7\n{CORE.format(1, 3300.0)}")
    kind = cpu_kind(info, "x86_64")
    assert kind.startswith("AMD EPYC (x86_64) ") and kind == cpu_kind(other, "x86_64")
    for changed in (CORE.format(17, 3300.0), CORE.format(1, 3300.0).replace("avx2", "avx2 amx_bf16")):
        other.write_text(f"processor\t: 7\n{changed}")
        assert cpu_kind(other, "x86_64") != kind
    arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\nFeatures\t: asimd\n"
    info.write_text(arm)
    other.write_text(arm.replace("0xd4f", "0xd0c"))
    assert cpu_kind(info, "aarch64") != cpu_kind(other, "aarch64")
    assert cpu_kind(tmp_path / "missing", "s390x").startswith("s390x ")
