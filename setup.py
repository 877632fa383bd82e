from pathlib import Path

from setuptools import find_packages, setup

AUDIO = ["soundfile>=0.12"]
TEST = [*AUDIO, "pytest>=8", "pytest-xdist>=3.6", "ruff>=0.9"]

setup(
    name="hf_unlearn",
    version="0.1.0",
    description="Train models ready for deletion, unlearn rows on request, and measure what was forgotten.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["hf_unlearn", "hf_unlearn.*"]),
    package_data={"hf_unlearn": ["py.typed", "report/templates/*"]},
    entry_points={"console_scripts": ["hf-unlearn = hf_unlearn.cli.main:main"]},
    install_requires=[
        "torch>=2.6",
        "transformers>=5.2,<6",
        "accelerate>=1.10",
        "datasets>=3.0",
        "peft>=0.18",
        "evaluate>=0.4.3",
        "huggingface_hub>=1.0",
        "numpy>=1.26",
        "pyarrow>=15",
        "xxhash>=3",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "rouge_score>=0.1.2",
        "matplotlib>=3.8",
        "jinja2>=3.1",
        "pillow>=10",
        "pyyaml>=6",
    ],
    extras_require={"audio": AUDIO, "4bit": ["bitsandbytes>=0.46.1"], "test": TEST, "dev": TEST},
)
