"""The packages whose functions the demo learns from, each pinned by the checksum of its archive."""

from __future__ import annotations

SOURCES = {
    "pypi:akshare==1.19.5": "4c49141dcdc3b27c43cb38cec628683f6803d6316adf8abc8dfc2adcd1e851cf",
    "pypi:wechatpy==1.8.18": "bfd0457dfd3f4623a490534cc9cb9c29b53f9397b3ebbee0f11ee7925b9b71f6",
    "pypi:cos-python-sdk-v5==1.9.44": "584a97ecd5e9b15b04a1e511e6dd0ea4eca00ee87fe50aa9a3c91ce716149bcb",
    "pypi:jionlp==1.5.31": "688ba3793c5c0888b166ae1b11aaf6161db661a162019e77ffcf5951427e528f",
    "pypi:nonebot2==2.5.0": "12380d396a3d5126eeeae0a1aa53af45e9d99b63896e3e2dd6340ee436869e36",
    "pypi:oss2==2.19.1": "a8ab9ee7eb99e88a7e1382edc6ea641d219d585a7e074e3776e9dec9473e59c1",
    "pypi:adata==2.9.5": "f9dc5d276f8771cf5a5f11fb81c6d97a00d188e20cfcef67022f210c8b23cbf1",
    "pypi:qiniu==7.18.0": "0f1be608ac6800ad5f32690d1aa02353b6b2ff5edc78f32a2318859d375a27df",
    "pypi:efinance==0.5.9": "787b4068eac2d0757a39c8f6f652067892586af24fa3795eb15268fac20a8b11",
}
"""Source -> SHA-256. All are under the MIT or the Apache-2.0 licence, most describe their functions in Chinese."""
